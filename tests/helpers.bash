# SPDX-License-Identifier: GPL-2.0-only
# What the suites share. A suite calls host_up and host_down in setup_file and teardown_file, begin and finish in
# setup and teardown; finish fails the test when it left anything behind, or the kernel complained.
# shellcheck shell=bash

TOP=$(cd "${BATS_TEST_DIRNAME:?}/.." && pwd -P)
IOCTL=$TOP/build/tests/ioctl
DATA=$TOP/build/tests/data
MODULES=(pfmt_ploop1 pfmt_raw pio_direct ploop)

# log2 of the sectors of a cluster, for new_image and attach.
CL=11
clusters() { CL=$1; }

# What a healthy kernel never says.
COMPLAINTS='WARNING:|BUG:|BUG |Oops|general protection|Unable to handle|KASAN|UBSAN|ODEBUG|refcount_t:'
COMPLAINTS+='|INFO: task .* blocked|INFO: possible|INFO: suspicious|INFO: rcu|rcu.* stall|soft lockup'
COMPLAINTS+='|DEBUG_LOCKS_WARN|possible circular|Call Trace|still has objects|Slab cache'

fail()
{
	printf '%s\n' "$*" >&2
	return 1
}

# fails COMMAND...: it must. (A plain ! does not end a test.)
fails()
{
	! "$@" || fail "succeeded: $*"
}

# wait_for SECONDS COMMAND...: until it succeeds; fails when the time is over.
wait_for()
{
	local end=$((SECONDS + $1))

	shift
	until "$@"; do
		((SECONDS <= end)) || fail "waited in vain for: $*" || return 1
		sleep 0.1
	done
}

ioctl() { "$IOCTL" "$@"; }
data() { "$DATA" "$@"; }

# expect ANSWER ARG...: what the ioctl program must print.
expect()
{
	local want=$1 got

	shift
	got=$("$IOCTL" "$@" 2>&1) || true
	[[ $got == "$want" ]] || fail "ioctl $*: $got instead of $want"
}

says() { [[ $("$IOCTL" "${@:2}" 2>&1) == "$1" ]]; }

# is FILE TEXT: all that the file holds.
is()
{
	local got

	got=$(<"$1") || return 1
	[[ $got == "$2" ]] || fail "$1: $got instead of $2"
}

# nth_call CALL PATTERN FILE: how many CALLs up to the first line with PATTERN, by a FILE of strace -o; for inject's when.
nth_call() { awk -v call="$1(" -v pattern="$2" 'index($0, call) == 1 { n++; if ($0 ~ pattern) { print n; exit } }' "$3"; }

# --- hosts: file systems for the images

# A block device of SIZE (1g) from memory; NAME tells them apart. Prints its node. Options are losetup's.
scratch_disk()
{
	local name=$1 size=$2

	modprobe -q loop || true
	truncate -s "$size" "$BATS_FILE_TMPDIR/$name.disk"
	losetup --find --show "${@:3}" "$BATS_FILE_TMPDIR/$name.disk"
}

# The suite's big disk: the cheapest that this kernel has.
main_disk()
{
	local size=$1

	if [[ -b /dev/disk/by-id/virtio-images ]]; then
		readlink -f /dev/disk/by-id/virtio-images
	elif [[ ! -d /sys/module/brd && ! -b /dev/ram0 ]] &&
	     modprobe brd rd_nr=1 rd_size="$(($(numfmt --from=iec "${size^^}") / 1024))" 2>/dev/null; then
		printf '/dev/ram0\n'
	else
		scratch_disk main "$size"
	fi
}

# make_fs TYPE DEVICE DIR: makes and mounts it.
make_fs()
{
	local type=$1 device=$2 dir=$3

	mkdir -p "$dir"
	case $type in
	ext4) mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "$device" ;;
	xfs) mkfs.xfs -q -f -K "$device" ;;
	btrfs) mkfs.btrfs -q -f -K "$device" ;;
	esac
	mount -t "$type" "$device" "$dir"
}

# small_host TYPE SIZE [LOSETUP-OPTION...]: another host in $T/small.
small_host()
{
	SMALL=$(scratch_disk "small$BATS_TEST_NUMBER" "$2" "${@:3}")
	make_fs "$1" "$SMALL" "$T/small"
}

small_host_down()
{
	! mountpoint -q "$T/small" || umount "$T/small"
	losetup -d "$SMALL"
	SMALL=
}

# has_fs TYPE: can this kernel mount it?
has_fs()
{
	grep -qw "$1" /proc/filesystems || modprobe "$1" 2>/dev/null
}

# host_up [SIZE]: ext4 on $HOST for the whole suite.
host_up()
{
	export HOST=$BATS_FILE_TMPDIR/host
	MAIN_DISK=$(main_disk "${1:-2g}")
	export MAIN_DISK
	make_fs ext4 "$MAIN_DISK" "$HOST"
}

host_down()
{
	umount "$HOST"
	case $MAIN_DISK in
	/dev/loop*) losetup -d "$MAIN_DISK" ;;
	/dev/ram*) modprobe -r brd ;;
	esac
}

# --- a test

# Before each command bats notes where it is, which takes longer than most commands when it is emulated. When one has
# failed is early enough.
trace_failures()
{
	trap - DEBUG
	trap 'note_failure; bats_error_trap' ERR
}

# Where its caller is.
note_failure() { bats_capture_stack_trace; }

# Loads the driver, marks the log, makes $T on the host.
begin()
{
	trace_failures
	T=$HOST/t$BATS_TEST_NUMBER
	HELPERS=()
	MARK="ploop-test: $BATS_SUITE_TEST_NUMBER.$$"
	printf '%s %s\n' "$MARK" "$BATS_TEST_DESCRIPTION" >/dev/kmsg
	mkdir -p "$T"
	modprobe -a "${MODULES[@]}"
}

# What the kernel has said since the test began.
kernel_log() { dmesg --notime | sed -n "/$MARK/,\$p" | sed -f "$TOP/tests/vm/provoked.sed"; }

# background COMMAND...: ended by finish; its output is in $T/background; the process is the last of HELPERS. Its
# input never ends.
background()
{
	if [[ ! ${HANG:-} ]]; then
		mkfifo "$BATS_TEST_TMPDIR/hang"
		exec {HANG}<>"$BATS_TEST_TMPDIR/hang"
	fi
	: >"$T/background"
	"$@" >"$T/background" 2>&1 <&"$HANG" 3>&- &
	HELPERS+=($!)
}

# hold ARG...: the ioctl program in the background, once it says that it holds what it was told to.
hold()
{
	background "$IOCTL" "$@"
	wait_for 10 grep -q held "$T/background"
}

# let_go: ends what hold or background started last.
let_go()
{
	local pid=${HELPERS[-1]}

	unset 'HELPERS[-1]'
	kill "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
}

finish()
{
	local failed=0

	end_helpers
	drop_devices || failed=1
	drop_mounts || failed=1
	rm -rf "$T"
	unload || failed=1
	if kernel_log | grep -E "$COMPLAINTS"; then
		fail "the kernel complained" || failed=1
	fi
	((failed == 0)) || note_failure
	return $failed
}

end_helpers()
{
	while ((${#HELPERS[@]})); do
		let_go
	done
}

# Everything that a test mounted on or below its directory, or from a ploop device. Without a process where there is
# nothing to do: emulated, each takes as long as a test's step.
drop_mounts()
{
	local target targets=()

	while read -r _ target _; do
		[[ $target != "$T"/* ]] || targets=("$(printf '%b' "$target")" "${targets[@]}")
	done </proc/self/mounts
	for target in "${targets[@]}"; do
		umount "$target" || fail "cannot unmount $target" || return 1
	done
}

# Whatever state the devices are in, they must let themselves be stopped, cleared and removed.
drop_devices()
{
	local dir dev

	for dir in /sys/block/ploop*; do
		[[ -d $dir ]] || continue
		dev=/dev/${dir##*/}
		unmount_device "$dev"
		if [[ $(<"$dir/pstate/running") == 1 ]]; then
			wait_for 30 stops "$dev" || return 1
		fi
		expect OK "$dev" clear || return 1
		remove "${dev#/dev/ploop}" || return 1
		[[ ! -e $dir ]] || fail "$dir is still there" || return 1
		[[ ! -e $dev ]] || fail "$dev is still there" || return 1
	done
}

# After ABORT, STOP may say EIO: it has stopped all the same.
stops() { says OK "$1" stop || [[ $(<"/sys/block/${1#/dev/}/pstate/running") == 0 ]]; }

unmount_device()
{
	local target

	findmnt -rno TARGET,SOURCE | grep -E " $1(p[0-9]+)?\$" | while read -r target _; do
		umount "$target"
	done
}

# No reference may be left: the modules must go, and take everything with them.
unload()
{
	wait_for 10 modprobe -q -r "${MODULES[@]}" || fail "$(grep -E '^(ploop|pfmt|pio)' /proc/modules)" || return 1
	[[ ! -e /dev/ploop-control && ! -e /proc/vz/ploop_minor ]] || fail "control files left"
}

# --- images and devices

# new_image FILE SIZE [VERSION]: empty, clusters of $CL.
new_image() { data image "$1" "${3:-2}" "$CL" "$(($(numfmt --from=iec "${2^^}") / 512))"; }

hash_of() { sha256sum <"$1"; }

# The on-disk mark: is it in use?
in_use() { [[ $(data peek "$1" 44 32) == 1953459801 ]]; }

# Index entry C of an image.
entry() { data peek "$1" "$((64 + 4 * $2))" 32; }
set_entry() { data poke "$1" "$((64 + 4 * $2))" 32 "$3"; }

# new_device: a device without images; sets DEV and SYS.
new_device()
{
	local n

	n=$(ioctl control get any)
	DEV=/dev/ploop$n
	SYS=/sys/block/ploop$n
	wait_for 10 test -b "$DEV"
}

format_of() { [[ $1 == *.raw ]] && printf 1 || printf 2; }

# stack FILE...: a new device with these images, the last one writable (-r: no one); not started.
stack()
{
	local mode=rw file

	if [[ $1 == -r ]]; then
		mode=ro
		shift
	fi
	new_device
	for file in "${@:1:$#-1}"; do
		expect OK "$DEV" add "$file" ro cl="$CL" format="$(format_of "$file")"
	done
	expect OK "$DEV" add "${*: -1}" $mode cl="$CL" format="$(format_of "${*: -1}")"
}

# attach [-r] FILE...: the same, started.
attach()
{
	stack "$@"
	expect OK "$DEV" start
}

# udev and blkid open devices for moments.
stop() { wait_for 30 says OK "${1:-$DEV}" stop; }

remove() { wait_for 10 says "$1" control remove "$1"; }

# openable: others may open the images for writing, because nobody uses the places of their blocks.
openable() { echo 0 >"$SYS/ptune/fast"; }

# detach [DEV]: stopped, cleared, removed.
detach()
{
	local dev=${1:-$DEV}

	stop "$dev"
	expect OK "$dev" clear
	remove "${dev#/dev/ploop}"
}

# Value of a counter, a state.
stat_of() { cat "$SYS/pstat/$1"; }
state_of() { cat "$SYS/pstate/$1"; }
