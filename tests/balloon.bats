#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# The Ballooning section of the user's page, command by command, on filesystems of several kinds; and ploop discard. The
# data must be right, and the space be given back.

load helpers
load stack
load balloon
load balloonfs

setup_file() { host_up 20g; }
teardown_file() { host_down; }

@test "the user's page, Ballooning, line by line" {
	local size

	new_fs 512m
	fill 1 40
	full
	delete_half 1 40
	sums >before
	exits 0 balloon show -m mnt
	says_line "Current size of hidden balloon is 0 bytes"
	status_is OFF
	change_cuts a.img 60 balloon change -s 100m -d /dev/ploop0 -m mnt
	says_line "Successfully inflated balloon from 0 to $((100 * MIB)) bytes"
	exits 0 balloon show -m mnt
	says_line "Current size of hidden balloon is $((100 * MIB)) bytes"
	# Larger, the same, smaller; -d or -m suffices.
	exits 0 balloon change -s 150m -m mnt
	says_line "Successfully inflated balloon from $((100 * MIB)) to $((150 * MIB)) bytes"
	exits 0 balloon change -s 150m -d "$DEV"
	says_line "Nothing to do: the balloon has $((150 * MIB)) bytes"
	size=$(stat -f -c %f mnt)
	exits 0 balloon change -s 40m -d "$DEV" -m mnt
	says_line "Successfully truncated balloon from $((150 * MIB)) to $((40 * MIB)) bytes"
	(($(stat -f -c %f mnt) - size == 110 * 256))
	exits 0 balloon status -d /dev/ploop0 -m mnt
	says_line "Current state of in-kernel maintenance: OFF"
	exits 0 balloon clear -d /dev/ploop0 -m mnt
	says_line "Current state of in-kernel maintenance is OFF now"
	exits 0 balloon complete -d /dev/ploop0 -m mnt
	says_line "Nothing to complete: the state of in-kernel maintenance is OFF"
	exits 0 balloon check -d /dev/ploop0 -m mnt
	says_line "No free blocks found"
	exits 0 balloon repair -d /dev/ploop0 -m mnt
	says_line "No unused cluster-blocks found"
	sums | diff before -
	immutable
	healthy
	immutable
	exits 0 balloon change -s 0 -m mnt
	exits 0 balloon check -m mnt
	says_line "The balloon is empty: no free blocks"
	exits 0 balloon change -s 1025 -m mnt
	[[ $(balloon_size) == $((129 * 4096)) ]]
}

@test "options, help, JSON, and who may not" {
	new_fs 256m
	ploop balloon --help | grep -q FBLOAD
	for word in change show status clear complete check repair; do
		ploop balloon $word --help | grep -qw $word
		exits 38 balloon $word
	done
	ploop discard --help | grep -q -- --min
	exits 38 balloon
	exits 38 balloon burst -m mnt
	exits 38 balloon change -m mnt
	exits 38 balloon change -s 1x -m mnt
	exits 38 balloon show -s 1m -m mnt
	exits 38 balloon clear --json -m mnt
	exits 40 balloon show -m "$HOST"
	exits 40 balloon status -d /dev/ploop7
	exits 0 balloon show -f -d "${DEV}p1"
	[[ $(balloon show --json -d "$DEV" | jq -c '[.mount, .balloon]') == "[\"$T/mnt\",0]" ]]
	[[ $(balloon status --json -m mnt | jq -r .maintenance) == OFF ]]
	[[ $(stat -c %a "$BALLOON") == 600 ]]
	immutable
	fails rm -f "$BALLOON"
	fails truncate -s 1m "$BALLOON"
	# Another program works on it.
	background flock --no-fork "$BALLOON" sleep 100
	wait_for 10 fails flock -n "$BALLOON" true
	for word in "change -s 1m" clear complete check repair; do
		# shellcheck disable=SC2086 # options
		exits 17 balloon $word -m mnt
	done
	exits 0 balloon show -m mnt
	let_go
	[[ $(balloon_size) == 0 ]]
	immutable
	# Another command works on the images.
	background flock --no-fork a.img sleep 100
	wait_for 10 fails flock -n a.img true
	exits 17 balloon change -s 1m -m mnt
	mentions "another ploop command"
}

@test "balloon_ino=N names a file; a stock mount does not know it; no file, no ext4" {
	local ino

	ploop init -s 128m a.img
	ploop mount -d "$DEV" a.img
	mkfs.ext4 -q "$DEV"
	mount "$DEV" mnt
	exits 4 balloon change -s 10m -m mnt
	mentions "balloon_ino"
	touch mnt/balloon
	ino=$(stat -c %i mnt/balloon)
	umount mnt
	exits 40 balloon show -d "$DEV"
	fails mount -t ext4 -o balloon_ino="$ino" "$DEV" mnt
	ploop umount -d "$DEV"
	ploop mount -d "$DEV" -m mnt -o "noatime,balloon_ino=$ino" a.img
	findmnt -no OPTIONS mnt | grep -q noatime
	exits 0 balloon change -s 10m -m mnt
	[[ $(stat -c %s,%a mnt/balloon) == $((10 * MIB)),600 ]]
	fails rm -f mnt/balloon
	ploop umount -m mnt
	# It is known from now on, also without the option.
	ploop mount -d "$DEV" -m mnt a.img
	exits 0 balloon show -m mnt
	says_line "Current size of hidden balloon is $((10 * MIB)) bytes"
	ploop umount -m mnt
	ploop mount -r -d "$DEV" -m mnt a.img
	exits 0 balloon show -m mnt
	fails ploop balloon change -s 20m -m mnt
	status_is OFF
	ploop umount -m mnt
	if has_fs xfs; then
		ploop init -s 400m x.img
		ploop mount -d "$DEV" x.img
		mkfs.xfs -q "$DEV"
		mount "$DEV" mnt
		exits 38 balloon change -s 10m -m mnt
		mentions "only ext4"
		ploop umount -d "$DEV"
	fi
	ploop init -s 128m -f raw r.raw
	ploop mount -f raw -d "$DEV" r.raw
	mkfs.ext4 -q "$DEV"
	mount "$DEV" mnt
	touch "$BALLOON"
	exits 3 balloon change -s 10m -m mnt
	[[ $(balloon_size) == 0 ]]
}

@test "no space for a balloon: its size and the state stay" {
	new_fs 256m
	fill 1 4
	exits 0 balloon change -s 64m -m mnt
	exits 20 balloon change -s 10g -m mnt
	mentions "keeps its size of 64M"
	[[ $(balloon_size) == $((64 * MIB)) ]]
	status_is OFF
	immutable
	right
}

# --- space

@test "2 GiB, 90 % full, half deleted, change to 1 GiB" {
	local free

	new_fs 2g
	fill 1 54 32
	delete_half 1 54
	free=$(stat -f -c %f mnt)
	change_cuts a.img 800 balloon change -s 1g -m mnt
	status_is OFF
	healthy
	exits 0 balloon change -s 0 -m mnt
	(($(stat -f -c %f mnt) == free))
	fill 100 110 32
	right
	healthy
}

# versions and layouts: most of a disk of 256 MiB
takes_half()
{
	local top=a.img images=(a.img) free

	new_fs 256m "$1" "$2"
	fill 1 24
	if [[ ${3:-} ]]; then
		ploop snapshot -d "$DEV" b.img
		top=b.img
		images+=(b.img)
		fill 1 24
	fi
	full
	delete_half 1 24
	free=$(stat -f -c %f mnt)
	change_cuts $top 75 balloon change -s 90m -m mnt
	healthy "${images[@]}"
	exits 0 balloon change -s 0 -m mnt
	(($(stat -f -c %f mnt) == free))
	fill 30 34
	healthy "${images[@]}"
}

@test "version 1, partition" { takes_half 1 partition; }

@test "version 2, whole disk" { takes_half 2 whole; }

@test "version 1, whole disk, above a snapshot" { takes_half 1 whole snapshot; }

@test "version 2, partition, above a snapshot" { takes_half 2 partition snapshot; }

# overwrite FILE: again and again, as long as it reads what it wrote.
overwrite()
{
	local i=1

	while data write "$1" 0 32m $i && data verify "$1" 0 32m $i; do
		echo $((i++)) >busy
	done
}

@test "beside a load: what is written meanwhile is right" {
	new_fs 512m
	fill 1 36
	fallocate -l 32m mnt/busy
	full
	delete_half 1 36
	background overwrite mnt/busy
	wait_for 30 test -s busy
	exits 0 balloon change -s 100m -m mnt
	exits 0 balloon change -s 130m -m mnt
	exits 0 balloon change -s 0 -m mnt
	exits 0 discard -m mnt
	kill -0 "${HELPERS[-1]}"
	let_go
	wait_for 10 fails pgrep -x data
	rm mnt/busy
	healthy
}

# --- discard and info

allocated() { echo $(($(stat -c '%b * %B' "$1"))); }

@test "discard: what is free is given back, with and without a snapshot; info shows it" {
	local before

	new_fs 256m
	fill 1 20
	delete_half 1 20
	before=$(allocated a.img)
	exits 0 discard -m mnt
	mentions "FREED: "
	((before - $(allocated a.img) >= 70 * MIB))
	((before - $(allocated a.img) <= $(sed -n 's/FREED: \([0-9]*\) .*/\1/p' "$SAID") + MIB))
	right
	exits 0 discard -d "$DEV"
	mentions "discarded 0 bytes"
	ploop snapshot -d "$DEV" b.img
	fill 21 26
	rm mnt/f2[1-6]
	before=$(allocated b.img)
	[[ $(ploop discard --json --min 1m -d "$DEV" | jq '.freed > 40000000 and .discarded > 40000000') == true ]]
	((before - $(allocated b.img) >= 40 * MIB))
	exits 0 balloon change -s 16m -m mnt
	[[ $(ploop info --json "$DEV" | jq '.balloon, (.allocated > 0), (.file_size >= .allocated), .filesystem_used > .balloon' |
		xargs) == "$((16 * MIB)) true true true" ]]
	[[ $(ploop info --json b.img | jq '.filesystem_used > .balloon') == true ]]
	ploop info "$DEV" | grep -q '^fs use:'
	ploop info a.img | grep -q '^balloon: *16777216'
	exits 38 discard
	exits 38 discard --min 0 -m mnt
	healthy a.img b.img
	umount mnt
	exits 40 discard -d "$DEV"
	[[ $(ploop info --json "$DEV" | jq -c '[.filesystem_used, .balloon]') == '[null,null]' ]]
}
