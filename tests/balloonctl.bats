#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Ballooning by its ioctls: the states and what each command answers in them (kernel-abi.md §2.8, §3), lists that are
# wrong. Relocation itself: relocblks.bats; collected discards: collect.bats. With clusters of 32 KiB one index cluster is
# enough.
# shellcheck disable=SC2153 # variables of balloon.bash

load helpers
load stack
load balloon

SNAPSHOT=0x40185004
FBGET=0x40105012
BALLOON=0x40105013
FREEBLKS=0x40105014
RELOCBLKS=0x40105015

setup_file() { host_up 3g; }
teardown_file() { host_down; }

setup()
{
	begin
	clusters 6
}

teardown()
{
	thaw
	drop_collected
	finish
}

# 16 MiB, of which 8 are written.
a_device()
{
	new_image "$T/a" 16m
	attach "$T/a"
	data write "$DEV" 0 8m 1
}

# remember IMAGE: its map, and all data.
remember()
{
	expect OK "$DEV" sync
	dd if="$DEV" of="$T/reference" bs=1M iflag=direct status=none
	owners "$1" 0 4294967295 >"$T/map"
}

nothing_changed()
{
	expect OK "$DEV" sync
	owners "$1" 0 4294967295 | diff "$T/map" -
	same_as_reference
}

# refuses ERRNO ARG...: an ioctl that does not change the state, which is $STATE.
refuses()
{
	expect "$1" "$DEV" "${@:2}" || return 1
	says "$STATE" "$DEV" balloon 0 2 || fail "after $*"
}

# others_busy: operations that must not begin now.
others_busy()
{
	new_image "$T/other" 16m
	expect EBUSY "$DEV" raw $SNAPSHOT 0
	expect EBUSY "$DEV" snapshot "$T/other" cl=6
	expect EBUSY "$DEV" merge
	expect EBUSY "$DEV" grow 65536 cl=6
	expect EBUSY "$DEV" del "$(<"$SYS/pstate/top")"
	expect EBUSY "$DEV" replace "$(<"$SYS/pstate/top")" "$T/other" cl=6
	expect EBUSY "$DEV" discard-init
	expect EBUSY "$DEV" clear
	rm "$T/other"
	# And these go on.
	expect OK "$DEV" sync
	expect OK "$DEV" maxsize 4294967296
}

# is_hole FILE CLUSTER: it holds nothing, or will read as zeros.
is_hole() { ! data dense "$1" $(($2 << (CL + 9))) $((($2 << (CL + 9)) + 4096)) >/dev/null; }

# A write to where nothing is takes a hole below HEAD.
reuses_holes()
{
	blkdiscard -o 6m -l 1m "$DEV"
	data write "$DEV" 6m 1m 4
	expect OK "$DEV" sync
	(($(entry "$T/a" 192) < HEAD))
}

# --- BALLOON, FREEBLKS, FBGET, FBDROP: states

@test "without deltas, stopped, raw, read-only: what BALLOON and DISCARD_INIT need" {
	local answers=(0 0 0 1 0 2) i

	new_device
	for nr in $FBGET $BALLOON $FREEBLKS $RELOCBLKS; do
		expect ENOENT "$DEV" raw "$nr" 0
	done
	expect ENOENT "$DEV" balloon 0 2
	expect ENOENT "$DEV" fbdrop
	expect EINVAL "$DEV" discard-init
	new_image "$T/a" 16m
	stack "$T/a"
	expect EINVAL "$DEV" balloon 1 0
	expect EINVAL "$DEV" discard-init
	balloon_is OFF
	expect OK "$DEV" start
	stop
	expect EINVAL "$DEV" balloon 1 0
	balloon_is OFF
	expect OK "$DEV" clear
	remove "${DEV#/dev/ploop}"
	attach -r "$T/a"
	expect EROFS "$DEV" balloon 1 0
	expect EROFS "$DEV" discard-init
	for ((i = 0; i < 6; i += 2)); do
		expect "OFF 0 0" "$DEV" balloon "${answers[@]:i:2}"
	done
	detach
	truncate -s 16m "$T/b.raw"
	attach "$T/b.raw"
	expect EOPNOTSUPP "$DEV" balloon 1 0
	expect EOPNOTSUPP "$DEV" discard-init
	balloon_is OFF
}

@test "BALLOON: fields that must be zero, values out of range, bad memory" {
	a_device
	for state in OFF BALLOON; do
		expect EFAULT "$DEV" raw $BALLOON 0
		expect EFAULT "$DEV" raw $BALLOON 0xffffffffffff0000
		expect EINVAL "$DEV" balloon 1 1
		expect EINVAL "$DEV" balloon 1 2
		expect EINVAL "$DEV" balloon 2 0
		expect EINVAL "$DEV" balloon 255 0
		expect EINVAL "$DEV" balloon 0 3
		expect EINVAL "$DEV" balloon 0 255
		expect EINVAL "$DEV" balloon 1 0 1
		expect EINVAL "$DEV" balloon 0 0 255
		balloon_is $state
		[[ $state == BALLOON ]] || inflated
	done
}

@test "OFF and BALLOON: each answer, each command that must wait or makes no sense" {
	a_device
	remember "$T/a"
	expect "OFF 0 0" "$DEV" balloon 0 0
	expect "OFF 0 0" "$DEV" balloon 0 1
	expect "OFF 0 0" "$DEV" balloon 0 2
	STATE="OFF 0 0"
	refuses EINVAL freeblks 0
	refuses EINVAL fbget
	refuses EINVAL fbfilter 0
	refuses EINVAL fbdrop
	refuses EINVAL relocblks 0 257 0
	refuses 0 discard-wait
	refuses OK discard-fini
	inflated
	balloon_is BALLOON
	expect "BALLOON 0 0" "$DEV" balloon 0 1
	expect "BALLOON 0 0" "$DEV" balloon 1 0
	STATE="BALLOON 0 0"
	refuses EINVAL fbget
	refuses EINVAL fbfilter 0
	refuses EINVAL fbdrop
	refuses EINVAL relocblks 0 257 0
	refuses OK discard-fini
	others_busy
	balloon_is BALLOON
	expect "OFF 0 0" "$DEV" balloon 0 0
	nothing_changed "$T/a"
	# Nothing is held: the device does what it did before.
	snapshot "$T/b"
	expect OK "$DEV" merge
	balloon_is OFF
	nothing_changed "$T/a"
}

@test "BALLOON has the index durable; a discard then keeps the entry, its data are gone" {
	local before allocated

	a_device
	data write "$DEV" 10m 1m 2
	[[ $(owned "$T/a" 320 352 | wc -l) == 0 ]]
	inflated
	[[ $(owned "$T/a" 320 352 | awk -F: '{ n += $3 } END { print n }') == 32 ]]
	before=$(owned "$T/a" 0 512)
	allocated=$(stat -c %b "$T/a")
	blkdiscard -o 1m -l 2m "$DEV"
	blkdiscard -z -o 4m -l 1m "$DEV"
	data verify "$DEV" 1m 2m 0
	data verify "$DEV" 4m 1m 0
	expect OK "$DEV" sync
	[[ $(owned "$T/a" 0 512) == "$before" ]]
	(($(stat -c %b "$T/a") <= allocated - 2 * 2048))
	expect "OFF 0 0" "$DEV" balloon 0 0
	data verify "$DEV" 0 1m 1
	data verify "$DEV" 3m 1m 1
	data verify "$DEV" 10m 1m 2
	# Native discard is back.
	blkdiscard -o 3m -l 1m "$DEV"
	expect OK "$DEV" sync
	[[ $(owned "$T/a" 96 128) == "" ]]
}

@test "FREEBLKS: FBLOADED, the clusters are unmapped at once, FBGET tells them, FBDROP forgets them" {
	local list n head level

	a_device
	give_up "$T/a" 192 256 0 32
	n=$(owners "$T/a" 0 4294967295 | awk -F: '{ n += $3 } END { print n }')
	((n == 256 - 96))
	for clu in 0 31 192 255; do
		[[ $(entry "$T/a" $clu) == 0 ]] || fail "cluster $clu has an entry"
	done
	balloon_is FBLOADED "$HEAD" 0
	((HEAD == 257))
	for arg in "0 0" "0 1" "1 0"; do
		# shellcheck disable=SC2086
		expect "FBLOADED $HEAD 0" "$DEV" balloon $arg
	done
	data verify "$DEV" 0 1m 0
	data verify "$DEV" 6m 2m 0
	data verify "$DEV" 1m 5m 1
	read -r n head level list < <(ioctl "$DEV" fbget)
	[[ $head == "$HEAD" && $level == 0 ]]
	# By iblk, 96 clusters in all, each once.
	tr ' ' '\n' <<<"$list" | sort -t: -n -c -k2
	[[ $(tr ' ' '\n' <<<"$list" | awk -F: '{ for (i = 0; i < $3; i++) print $1 + i }' | sort -n | uniq | wc -l) == 96 ]]
	[[ $(wc -w <<<"$list") == "$n" ]]
	# Room.
	expect "$n $HEAD 0" "$DEV" fbget 0
	expect "$n $HEAD 0 $list" "$DEV" fbget "$n"
	expect "$n $HEAD 0 $list" "$DEV" fbget $((n + 7))
	((n == 1)) || expect ENOSPC "$DEV" fbget $((n - 1))
	expect EFAULT "$DEV" raw $FBGET 0
	remember "$T/a"
	STATE="FBLOADED $HEAD 0"
	refuses EBUSY freeblks 0
	refuses EFAULT raw $RELOCBLKS 0
	refuses OK discard-fini
	others_busy
	# What is written now comes to the end of the file, whatever holes there are.
	data write "$DEV" 0 512k 3
	data write "$DEV" 12m 1m 3
	expect OK "$DEV" sync
	for clu in 0 15 384 415; do
		(($(entry "$T/a" $clu) >= HEAD)) || fail "cluster $clu is at $(entry "$T/a" $clu)"
	done
	expect OK "$DEV" fbdrop
	balloon_is OFF
	data verify "$DEV" 0 512k 3
	data verify "$DEV" 512k 512k 0
	data verify "$DEV" 12m 1m 3
	data verify "$DEV" 1m 5m 1
	# Their space came back, and is used.
	for extent in $list; do
		wait_for 20 is_hole "$T/a" "$(cut -d: -f2 <<<"$extent")"
	done
	wait_for 20 reuses_holes
	detach
	check_image "$T/a"
	attach "$T/a"
	data verify "$DEV" 0 512k 3
	data verify "$DEV" 512k 512k 0
	data verify "$DEV" 1m 5m 1
	data verify "$DEV" 6m 1m 4
	data verify "$DEV" 7m 1m 0
}

@test "FREEBLKS with a snapshot: what is below shows through; the list may be empty" {
	a_device
	snapshot "$T/b"
	data write "$DEV" 2m 2m 2
	data write "$DEV" 10m 1m 2
	give_up "$T/b" 64 128 320 352
	((LEVEL == 1))
	balloon_is FBLOADED "$HEAD" 1
	expect OK "$DEV" fbdrop
	data verify "$DEV" 0 8m 1
	data verify "$DEV" 8m 8m 0
	give_up "$T/b"
	balloon_is FBLOADED "$HEAD" 1
	expect "0 $HEAD 1" "$DEV" fbget
	expect OK "$DEV" fbdrop
	detach
	check_image "$T/a" "$T/b"
	attach "$T/a" "$T/b"
	data verify "$DEV" 0 8m 1
	data verify "$DEV" 8m 8m 0
}

@test "STOP in BALLOON and FBLOADED: OFF, and nothing is lost" {
	a_device
	inflated
	stop
	balloon_is OFF
	expect OK "$DEV" start
	balloon_is OFF
	data verify "$DEV" 0 8m 1
	give_up "$T/a" 0 64
	data write "$DEV" 12m 1m 2
	stop
	balloon_is OFF
	check_image "$T/a"
	expect OK "$DEV" start
	data verify "$DEV" 0 2m 0
	data verify "$DEV" 2m 6m 1
	data verify "$DEV" 12m 1m 2
	give_up "$T/a" 64 128
	stop
	expect OK "$DEV" clear
	attach "$T/a"
	data verify "$DEV" 2m 2m 0
	data verify "$DEV" 4m 4m 1
	balloon_is OFF
}

@test "MERGE and GROW: the balloon's commands wait or make no sense" {
	a_device
	snapshot "$T/b"
	data write "$DEV" 0 16m 2
	expect OK "$DEV" sync
	pause merge
	expect "MERGE 0 0" "$DEV" balloon 0 2
	expect "MERGE 0 0" "$DEV" balloon 0 0
	expect "MERGE 0 0" "$DEV" balloon 1 0
	expect EBUSY "$DEV" freeblks 1
	expect EINVAL "$DEV" fbget
	expect EINVAL "$DEV" fbdrop
	expect EINVAL "$DEV" fbfilter 1
	expect EINVAL "$DEV" relocblks 1 257 0
	expect EBUSY "$DEV" discard-init
	thaw
	waiter_says OK
	data verify "$DEV" 0 16m 2
	pause grow $((204800 * 2048)) cl=6
	expect "GROW 0 0" "$DEV" balloon 0 2
	expect "GROW 0 0" "$DEV" balloon 1 0
	expect EBUSY "$DEV" freeblks 0
	expect EINVAL "$DEV" relocblks 0 257 0
	expect EBUSY "$DEV" discard-init
	thaw
	waiter_says OK
	balloon_is OFF
	data verify "$DEV" 0 16m 2
}

# --- lists that are wrong

# two_deltas [VERSION]: clusters 0..63 in the base only, 64..127 in both, 128..191 in the top only, 192.. nowhere.
two_deltas()
{
	VERSION=${1:-2}
	new_image "$T/a" 16m "$VERSION"
	attach "$T/a"
	data write "$DEV" 0 4m 1
	snapshot "$T/b"
	data write "$DEV" 2m 4m 2
	remember "$T/b"
}

# place CLUSTER [FILE]: where it is in the file.
place() { owned "${2:-$T/b}" "$1" $(($1 + 1)) | cut -d: -f2; }

hostile_freeblks()
{
	local p q base end bad

	two_deltas "$1"
	inflated
	STATE="BALLOON 0 0"
	p=$(place 128) q=$(place 129) base=$(place 0 "$T/a") end=129
	refuses EFAULT raw $FREEBLKS 0
	refuses EFAULT freeblks 1 128:"$p":1 n=2
	for bad in n=4294967295 n=2147483648 n=268435456 n=513; do
		refuses EINVAL freeblks 1 128:"$p":1 $bad
	done
	for bad in 0 2 127 255; do
		refuses EINVAL freeblks $bad 128:"$p":1
	done
	nothing_changed "$T/b"
	# Alone, and behind one that is right: all or nothing.
	for bad in \
		129:"$p":1 128:"$q":1 128:"$((p + 1024))":1 128:0:1 128:4294967295:1 128:"$end":1 128:$((end + 1000000)):1 \
		0:"$base":1 0:"$p":1 192:"$p":1 192:0:1 192:"$end":1 511:"$end":1 \
		512:"$p":1 4294967295:"$p":1 4294967295:4294967295:1 128:"$p":4294967295 128:"$p":385 128:"$p":65 \
		127:"$p":2 4294967295:"$p":2 1:"$p":4294967295 128:4294967295:4294967295; do
		refuses EINVAL freeblks 1 "$bad"
		refuses EINVAL freeblks 1 64:"$(place 64)":1 "$bad"
	done
	nothing_changed "$T/b"
	# Twice, in part twice.
	refuses EINVAL freeblks 1 128:"$p":1 128:"$p":1
	refuses EINVAL freeblks 1 140:"$(place 140)":1 128:"$p":1 140:"$(place 140)":1
	mapfile -t whole < <(owned "$T/b" 128 192)
	refuses EINVAL freeblks 1 "${whole[@]}" 191:"$(place 191)":1
	refuses EINVAL freeblks 1 128:"$p":1 "${whole[@]}"
	nothing_changed "$T/b"
	balloon_is BALLOON
	# And this is not wrong: any order, nothing, one after the other.
	[[ $(ioctl "$DEV" freeblks 1 129:"$q":1 0:0:0 128:"$p":1 130:"$(place 130)":0) == "$end" ]]
	balloon_is FBLOADED "$end" 1
	[[ $(loaded_list | awk -F: '{ n += $3 } END { print n }') == 2 ]]
	data verify "$DEV" 4m 64k 0
	data verify "$DEV" $((130 * 32768)) 1984k 2
	data verify "$DEV" 0 2m 1
	data verify "$DEV" 2m 2m 2
	expect OK "$DEV" fbdrop
	detach
	check_image "$T/a" "$T/b"
}

@test "FREEBLKS: no wrong list changes anything" { hostile_freeblks 2; }

# Of TAIL, the first extent with FREE (0, 1); its number.
first_with()
{
	local i

	for i in "${!TAIL[@]}"; do
		[[ ${TAIL[i]} != *:"$1" ]] || break
	done
	echo "$i"
}

# refuses_list ARG...: in place of TAIL.
refuses_list() { refuses EINVAL relocblks 1 "$HEAD" "$SCANNED" "$@"; }

hostile_relocblks()
{
	local bad i used free clu iblk len list

	two_deltas "$1"
	# A gap of the file in the midst of the window: what was given up before, and is unknown to the list.
	give_up "$T/b" 100 104
	expect OK "$DEV" fbdrop
	give_up "$T/b" 64 80 120 136 190 192
	remember "$T/b"
	STATE="FBLOADED $HEAD 1"
	scan "$T/b"
	list=("${TAIL[@]}")
	used=$(first_with 0) free=$(first_with 1)
	((${#list[@]} > 4 && SCANNED > 100))
	refuses EFAULT raw $RELOCBLKS 0
	refuses EFAULT relocblks 1 "$HEAD" "$SCANNED" "${list[@]}" n=$((${#list[@]} + 1))
	for bad in n=4294967295 n=2147483648 n=268435456 mbz1=1 mbz1=255 mbz2=1 mbz2=65535; do
		refuses_list "${list[@]}" $bad
	done
	for bad in 0 2 255; do
		refuses EINVAL relocblks $bad "$HEAD" "$SCANNED" "${list[@]}"
	done
	for bad in 0 1 $((HEAD - 1)) $((HEAD + 1)) 4294967295; do
		refuses EINVAL relocblks 1 "$bad" "$SCANNED" "${list[@]}"
	done
	for bad in "$HEAD" $((HEAD + 1)) 4294967295; do
		refuses EINVAL relocblks 1 "$HEAD" "$bad" "${list[@]}"
	done
	# A window that does not hold the list; and nothing at all in one that is not empty.
	refuses EINVAL relocblks 1 "$HEAD" 1 "${list[@]}"
	refuses EINVAL relocblks 1 "$HEAD" 0 "${list[@]}"
	refuses_list
	nothing_changed "$T/b"
	# Gaps that hide what is in use: an extent less, or a shorter one.
	for i in "${!list[@]}"; do
		[[ ${list[i]} == *:0 ]] || continue
		IFS=: read -r clu iblk len _ <<<"${list[i]}"
		refuses_list "${list[@]:0:i}" "${list[@]:i+1}"
		((len > 1)) || continue
		refuses_list "${list[@]:0:i}" "$clu:$iblk:$((len - 1)):0" "${list[@]:i+1}"
		refuses_list "${list[@]:0:i}" "$((clu + 1)):$((iblk + 1)):$((len - 1)):0" "${list[@]:i+1}"
		refuses_list "${list[@]:0:i}" "$clu:$iblk:1:0" "${list[@]:i+1}"
	done
	nothing_changed "$T/b"
	# Order, overlap, nothing, twice.
	refuses_list "${list[@]:1}" "${list[0]}"
	refuses_list "${list[@]:0:1}" "${list[@]}"
	refuses_list "${list[@]}" "${list[-1]}"
	IFS=: read -r clu iblk len _ <<<"${list[used]}"
	for bad in \
		"$clu:$iblk:0:0" "$clu:$iblk:$((len + 1)):0" "$clu:$iblk:4294967295:0" "$clu:$iblk:$len:1" "$clu:$iblk:$len:2" \
		"$clu:$iblk:$len:4294967295" "$((clu + 1)):$iblk:$len:0" "512:$iblk:$len:0" "4294967295:$iblk:$len:0" \
		"0:$iblk:$len:0" "$clu:$((iblk + 1)):$len:0" "$clu:0:$len:0" "$clu:$HEAD:$len:0" "$clu:4294967295:$len:0" \
		"$clu:4294967295:4294967295:0"; do
		refuses_list "${list[@]:0:used}" "$bad" "${list[@]:used+1}"
	done
	IFS=: read -r clu iblk len _ <<<"${list[free]}"
	for bad in \
		"$clu:$iblk:$len:0" "$clu:$iblk:$((len + 1)):1" "$((clu + 1)):$iblk:$len:1" "192:$iblk:$len:1" "100:$iblk:$len:1" \
		"$clu:$iblk:0:1" "$clu:$iblk:$len:3" "4294967295:$iblk:$len:1"; do
		refuses_list "${list[@]:0:free}" "$bad" "${list[@]:free+1}"
	done
	nothing_changed "$T/b"
	(($(file_clusters "$T/b") >= HEAD))
	# Without the free ones it is right: they are not in use.
	mapfile -t list < <(printf '%s\n' "${list[@]}" | grep ':0$')
	[[ $(ioctl "$DEV" relocblks 1 "$HEAD" "$SCANNED" "${list[@]}") == 38 ]]
	balloon_is OFF
	same_as_reference
	detach
	check_image "$T/a" "$T/b"
	attach "$T/a" "$T/b"
	same_as_reference
}

@test "RELOCBLKS: no wrong list changes anything: version 1" { hostile_relocblks 1; }

@test "lists of thousands of extents" {
	local list

	new_image "$T/a" 128m
	attach "$T/a"
	data write "$DEV" 0 128m 1
	inflated
	mapfile -t list < <(owned "$T/a" 0 4096 | awk -F: '{ for (i = 0; i < $3; i++) if (($1 + i) % 2) print $1 + i ":" $2 + i ":1" }' | shuf)
	((${#list[@]} == 2048))
	load_list "${list[@]}"
	((HEAD == 4097))
	[[ $(loaded_list | awk -F: '{ n += $3 } END { print n }') == 2048 ]]
	scan "$T/a"
	((${#TAIL[@]} == 4096))
	[[ $(relocate "$T/a") == 2048 ]]
	(($(file_clusters "$T/a") == 2049))
	detach
	check_image "$T/a"
	attach "$T/a"
	for clu in 0 2 2048 4094; do
		data verify "$DEV" $((clu * 32768)) 32k 1
		data verify "$DEV" $(((clu + 1) * 32768)) 32k 0
	done
}
