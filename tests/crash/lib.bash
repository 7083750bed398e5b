# SPDX-License-Identifier: GPL-2.0-only
# What the crash tests share, in the machine: each maintenance operation with the images before and after it, a writer
# beside it, and the check that must hold whenever it was interrupted. Images lie in $IMG, the writer's journal is $JOURNAL.
# shellcheck shell=bash

# The functions of the suites are for the balloon.
: "${BATS_TEST_DIRNAME:=$TOP/tests}"
. "$TOP/tests/helpers.bash"
. "$TOP/tests/stack.bash"
. "$TOP/tests/balloon.bash"

STAMPS=$TOP/build/tests/crash/stamps
SMALL=200m
LARGE=800m
# Where the writer writes, and how much an epoch is.
SPAN=$((48 << 20))
WRITES=6
# Writes to each image before.
PREPARED=250
# What a balloon has taken from the filesystem.
BALLOON_AT=$((64 << 20))
BALLOON_BYTES=$((16 << 20))

# write is no operation: writes alone, to see that this test can fail.
# shellcheck disable=SC2034 # for those who include this
KINDS=(write snapshot merge-top merge-range merge-raw merge-offline grow grow-offline balloon copy)

say_so() { printf '# %s\n' "$*"; }

online() { [[ $1 != *-offline ]]; }

# before KIND: the images that the operation finds, base first.
before()
{
	case $1 in
	write | snapshot | balloon | copy) echo base d1 ;;
	merge-raw) echo base.raw d1 ;;
	merge-*) echo base d1 d2 ;;
	grow*) echo base ;;
	esac
}

# after KIND: the images that hold the data once it has succeeded.
after()
{
	case $1 in
	snapshot) echo base d1 new ;;
	merge-top) echo base d1 ;;
	merge-raw) echo base.raw ;;
	merge-*) echo base ;;
	*) before "$1" ;;
	esac
}

# possible KIND: what an interrupted operation may leave, a line each, in the order in which a user would try: with all
# files that there are. The first that can be attached must be right: nothing tells him to try another.
possible()
{
	case $1 in
	snapshot) printf '%s\n' "$(after "$1")" "$(before "$1")" ;;
	merge-range) printf '%s\n' "base d1 d2" "base d2" "base d1" "base" ;;
	merge-*) printf '%s\n' "$(before "$1")" "$(after "$1")" ;;
	*) before "$1" ;;
	esac
}

# mount_images IMAGE...: prints the node.
mount_images()
{
	local options=()

	[[ $1 != *.raw ]] || options=(-f raw -b 64)
	(cd "$IMG" && ploop mount "${options[@]}" "$@") | tail -n 1
}

umount_device() { ploop umount -d "$1"; }

make_image()
{
	if [[ $1 == *.raw ]]; then
		ploop init -f raw -s "$SMALL" "$1"
	else
		ploop init -b 64 -s "$SMALL" "$1"
	fi
}

# prepare KIND: its images, each with some of the data.
prepare()
{
	local image dev chain=()

	for image in $(before "$1"); do
		make_image "$IMG/$image"
		chain+=("$image")
		dev=$(mount_images "${chain[@]}")
		# At the front of the file, with what has to move behind it.
		[[ $1 != balloon ]] || "$STAMPS" fill "$dev" "$JOURNAL" $BALLOON_AT $BALLOON_BYTES
		"$STAMPS" write "$dev" "$JOURNAL" "$SPAN" "$PREPARED" 1 "$RANDOM"
		umount_device "$dev"
	done
}

# deflate DEV: gives up what the balloon has, and has the top's file cut.
deflate()
{
	local top from=$((BALLOON_AT >> 15)) cut

	clusters 6
	switch_to "$1"
	top=$(<"$SYS/pdelta/$(<"$SYS/pstate/top")/image")
	give_up "$top" $from $((from + (BALLOON_BYTES >> 15))) || return
	cut=$(relocate "$top") || return
	say_so "$cut clusters cut"
}

# is_compact IMAGE: it is as long as what it holds.
is_compact()
{
	local used

	used=$(($(data map "$1" | awk -F: '{ n += $3 } END { print n + 0 }') + $(index_clusters "$1")))
	(($(file_clusters "$1") == used)) && return
	say_so "$1 has $(file_clusters "$1") clusters for $used in use"
	return 1
}

# copy_device DEV: beside the writer, who stands still at the end: not when he is told to, but after the call he is in.
copy_device()
{
	[[ ${WRITER:-} ]] || { ploop copy -s "$1" -d "$IMG/copy"; return; }
	ploop copy -s "$1" -d "$IMG/copy" \
		-F "kill -STOP $WRITER; until grep -q '^State:.T' /proc/$WRITER/status; do sleep 0.1; done" || return
	kill -CONT "$WRITER"
}

# operate KIND DEV LEVELS: DEV has so many levels; for operations without a device both are unused.
operate()
{
	local kind=$1 dev=$2 top=$(($3 - 1))

	case $kind in
	write) ;;
	snapshot) ploop snapshot -d "$dev" "$IMG/new" ;;
	merge-top) ploop merge -d "$dev" -l 1..2 ;;
	merge-range) ploop merge -d "$dev" -l "0..$top" ;;
	merge-raw) ploop merge -d "$dev" ;;
	merge-offline) ploop merge "$IMG/d2" "$IMG/d1" "$IMG/base" ;;
	grow) ploop grow -s "$LARGE" -d "$dev" ;;
	grow-offline) ploop grow -s "$LARGE" "$IMG/base" ;;
	balloon) deflate "$dev" ;;
	copy) copy_device "$dev" ;;
	esac
}

# operate_again KIND DEV LEVELS: whatever the first attempt has come to.
operate_again()
{
	local kind=$1 dev=$2 levels=$3

	case $kind in
	merge-offline | grow* | balloon)
		operate "$@"
		;;
	copy)
		rm -f "$IMG/copy"
		operate "$@"
		;;
	snapshot)
		if ((levels == 3)); then
			ploop snapshot -d "$dev" "$IMG/newer"
		else
			# The old one was not in use yet.
			rm -f "$IMG/new"
			operate "$@"
		fi
		;;
	*)
		((levels == $(after "$kind" | wc -w))) || operate "$@"
		;;
	esac
}

# verify DEV [EPOCH]
verify() { "$STAMPS" verify "$1" "$JOURNAL" ${2:+"$2"}; }

# size_is DEV SIZE...: one of these.
size_is()
{
	local size has

	has=$(blockdev --getsize64 "$1")
	for size in "${@:2}"; do
		(($(numfmt --from=iec "${size^^}") != has)) || return 0
	done
	say_so "$1 has $has bytes, not ${*:2}"
	return 1
}

# After a crash an image may be marked as in use, and nothing worse.
check_images()
{
	local allowed=$1 image status

	for image in "${@:2}"; do
		[[ -e $IMG/$image && $image != *.raw ]] || continue
		status=0
		ploop check "$IMG/$image" >/dev/null || status=$?
		if ((status != 0 && status != allowed)); then
			say_so "ploop check $image: $status"
			return 1
		fi
	done
}

# The same said by another implementation, of images that were detached.
qemu_agrees()
{
	local image

	for image; do
		[[ $image == *.raw ]] || check_image "$IMG/$image" || return
	done
}

# find_chain KIND FINISHED: attaches what there is; sets CHAIN and DEV.
find_chain()
{
	local kind=$1 finished=$2 line chains=()

	if ((finished)); then
		chains=("$(after "$kind")")
	else
		mapfile -t chains < <(possible "$kind")
	fi
	for line in "${chains[@]}"; do
		read -ra CHAIN <<<"$line"
		(cd "$IMG" && ls "${CHAIN[@]}") >/dev/null 2>&1 || continue
		if DEV=$(mount_images "${CHAIN[@]}"); then
			say_so "attached: $line"
			return
		fi
		say_so "cannot attach: $line"
	done
	return 1
}

# inspect KIND FINISHED [EPOCH]: the check, after an interruption. The operation had succeeded when FINISHED is 1.
inspect()
{
	local kind=$1 finished=$2 epoch=${3:-} sizes=("$LARGE")

	find_chain "$kind" "$finished" || return
	verify "$DEV" "$epoch" || return
	((finished)) || sizes+=("$SMALL")
	[[ $kind != grow* ]] || size_is "$DEV" "${sizes[@]}" || return
	complete "$kind" "$epoch"
}

# complete KIND [EPOCH]: on DEV with CHAIN; the operation again, and what must be there when it has succeeded.
complete()
{
	local kind=$1 epoch=${2:-}

	if online "$kind"; then
		operate_again "$kind" "$DEV" "${#CHAIN[@]}" || return
		verify "$DEV" "$epoch" || return
		[[ $kind != grow ]] || size_is "$DEV" "$LARGE" || return
		umount_device "$DEV" || return
	else
		umount_device "$DEV" || return
		operate_again "$kind" '' 0 || return
	fi
	verify_result "$kind" "$epoch"
}

verify_result()
{
	local kind=$1 chain

	read -ra chain <<<"$(after "$kind")"
	[[ ! -e $IMG/newer ]] || chain+=(newer)
	check_images 0 "${chain[@]}" || return
	qemu_agrees "${chain[@]}" || return
	[[ $kind != balloon ]] || is_compact "$IMG/d1" || return
	DEV=$(mount_images "${chain[@]}") || return
	verify "$DEV" "${2:-}" || return
	if [[ $kind == grow* ]]; then
		size_is "$DEV" "$LARGE" || return
	fi
	umount_device "$DEV"
}

# start_writer LOG: beside an operation on DEV, until stop_writer; it has made two epochs durable before this returns. LOG
# as for stamps, or empty.
start_writer()
{
	"$STAMPS" write "$DEV" "$JOURNAL" "$SPAN" "$WRITES" 0 "$RANDOM" ${1:+"$1"} &
	WRITER=$!
	wait_epochs 2
}

durable_epochs() { grep -c '^c' "$JOURNAL" || true; }

# wait_epochs N: until so many more are durable.
wait_epochs()
{
	local goal=$(($(durable_epochs) + $1))

	while (($(durable_epochs) < goal)); do
		kill -0 "$WRITER" || return
		sleep 0.05
	done
}

stop_writer()
{
	kill "$WRITER"
	wait "$WRITER"
}

# What a failed check left behind.
umount_all()
{
	local dir

	for dir in /sys/block/ploop*; do
		[[ ! -d $dir ]] || ploop umount -d "/dev/${dir##*/}" || true
	done
}
