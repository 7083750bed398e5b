# SPDX-License-Identifier: GPL-2.0-only
# What the suites about `ploop balloon` share, on top of helpers.bash, stack.bash and balloon.bash: an ext4 in a.img, on
# mnt.
# shellcheck shell=bash disable=SC2034,SC2153 # variables of helpers.bash

PLOOP=$TOP/userspace/ploop
DEV=/dev/ploop0
SYS=/sys/block/ploop0
BALLOON=mnt/.balloon-c3a5ae3d-ce7f-43c4-a1ea-c61e2b4504e8
MIB=1048576
MAINTENANCE+=([snapshot]=3)

setup()
{
	begin
	SAID=$BATS_TEST_TMPDIR/said
	cd "$T" || return
	mkdir mnt
}

teardown()
{
	thaw
	cd /
	finish
}

ploop() { "$PLOOP" "$@" 3>&-; }
balloon() { ploop balloon "$@"; }

# exits CODE ARG...: ploop ends so; what it says goes to $SAID, which is not on the host: that may be frozen.
exits()
{
	local want=$1 got=0

	shift
	ploop "$@" >"$SAID" 2>&1 || got=$?
	[[ $got == "$want" ]] || fail "ploop $*: exit status $got instead of $want: $(<"$SAID")"
}

# says_line TEXT: the last exits had this line in its output.
says_line() { grep -qFx -- "$1" "$SAID" || fail "not '$1' but: $(<"$SAID")"; }

# mentions TEXT: somewhere in it.
mentions() { grep -qF -- "$1" "$SAID" || fail "no '$1' in: $(<"$SAID")"; }

status_is()
{
	exits 0 balloon status -d "$DEV"
	says_line "Current state of in-kernel maintenance: $1"
}

immutable() { lsattr "$BALLOON" | grep -q '^[^ ]*i'; }

balloon_size() { stat -c %s "$BALLOON"; }

# --- a filesystem to work on

# new_fs SIZE [VERSION [whole]]: in a.img on mnt; in a partition, or on the whole disk.
new_fs()
{
	local fs=(-t ext4)

	[[ ${3:-} != whole ]] || fs=()
	ploop init -s "$1" -v "${2:-2}" "${fs[@]}" a.img
	if [[ ${3:-} == whole ]]; then
		ploop mount -d "$DEV" a.img
		mkfs.ext4 -q -b 4096 -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "$DEV"
		mount "$DEV" mnt
		touch "$BALLOON"
	else
		ploop mount -d "$DEV" -m mnt a.img
	fi
}

# fill FROM TO [MEBIBYTES]: files with data of their own.
fill()
{
	local i

	for ((i = $1; i <= $2; i++)); do
		: >"mnt/f$i"
		data write "mnt/f$i" 0 "${3:-8}m" "$i" || return 1
	done
}

# delete_half FROM TO: every second file, so that free clusters lie between others.
delete_half()
{
	local i

	for ((i = $1; i <= $2; i += 2)); do
		rm "mnt/f$i"
	done
	sync -f mnt
}

# full: a balloon has to take what is deleted next. No cluster gets used for that, and ext4 keeps 2 % for itself.
full() { fallocate -l $((($(stat -f -c '%f - %b / 50' mnt) - 256) * 4096)) mnt/ballast; }

# right: all files that are there.
right()
{
	local file

	for file in mnt/f*; do
		data verify "$file" 0 "$(stat -c %s "$file")" "${file#mnt/f}" || return 1
	done
}

sums() { (cd mnt && sha256sum f*); }

fs_node() { findmnt -no SOURCE mnt; }

# healthy [FILE...]: the filesystem after an unmount, and the data after the images (a.img) were attached again.
healthy()
{
	local node

	right
	node=$(fs_node)
	umount mnt
	e2fsck -fn "$node"
	ploop umount -d "$DEV"
	check_image "${@:-a.img}"
	ploop mount -d "$DEV" -m mnt "${@:-a.img}"
	right
}

# A filesystem with free clusters between those in use.
fragmented()
{
	new_fs 256m
	fill 1 20 4
	full
	delete_half 1 20
}

# --- what change prints and does

cut_clusters() { sed -n 's/^TRUNCATED: \([0-9]*\) cluster-blocks.*/\1/p' "$SAID"; }

# used_end FILE: the cluster of the file behind the last one in use.
used_end() { owners "$1" 0 4294967295 | tail -n 1 | awk -F: '{ print $2 + $3 }'; }

# change_cuts FILE LEAST ARG...: the file becomes shorter by the clusters that are printed, at least LEAST. What the
# filesystem writes to note the balloon may need a few clusters first. (What is allocated ahead does not count.)
change_cuts()
{
	local file=$1 least=$2 before after clusters

	sync -f mnt
	expect OK "$DEV" sync
	before=$(used_end "$file")
	exits 0 "${@:3}"
	after=$(file_clusters "$file")
	clusters=$(cut_clusters)
	echo "# $file: used to $before, cut $clusters, now $after"
	mentions "TRUNCATED: $clusters cluster-blocks ($((clusters * (512 << CL))) bytes)"
	((clusters >= least && after - before + clusters >= 0 && after - before + clusters <= 4))
}
