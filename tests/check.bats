#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `ploop check`: each kind of damage, what is said about it, what a repair makes of it, and what a repair leaves that
# is killed at any of its writes. Images are made and read without the driver, so that they can be wrong.

load helpers
load stack

PLOOP=$TOP/userspace/ploop
IN_USE=44
DIRTY=0x746f6e59
WITH_EXTENSION=0x312e3276
FLAGS=52
EXTENSION=56

setup_file() { host_up 1g; }
teardown_file() { host_down; }

setup()
{
	begin
	cd "$T" || return
	clusters 6
	CLUSTER=$((512 << CL))
}

teardown()
{
	cd /
	finish
}

ploop() { "$PLOOP" "$@" 3>&-; }

# exits CODE ARG...: ploop ends so; its messages go to $T/said.
exits()
{
	local want=$1 got=0

	shift
	ploop "$@" >"$T/said" 2>&1 || got=$?
	[[ $got == "$want" ]] || fail "ploop $*: exit status $got instead of $want: $(<"$T/said")"
}

said() { grep -q -e "$1" "$T/said" || fail "not said: $1, but: $(<"$T/said")"; }

# found IMAGE FIELD: what check says about it.
found() { ploop check --json "$1" 2>/dev/null | jq -r ".[0].$2"; }

# --- images, and the disks that are in them

# What an entry counts.
unit_of() { [[ $(head -c 16 "$1") == WithoutFreeSpace ]] && printf %d $((1 << CL)) || printf 1; }

file_clusters() { printf %d $(($(stat -c %s "$1") / CLUSTER)); }

point() { set_entry "$1" "$2" $(($3 * $(unit_of "$1"))); }

# place IMAGE FROM TO: these clusters of the disk get places at the end of the file, in reverse order.
place()
{
	local clu at

	for ((clu = $3; clu >= $2; clu--)); do
		at=$(file_clusters "$1")
		dd if=pattern of="$1" bs="$CLUSTER" skip="$clu" seek="$at" count=1 conv=notrunc status=none
		point "$1" "$clu" "$at"
	done
}

# filled IMAGE VERSION [SIZE]: with clusters 0 to 11 and 200 to 203 of the pattern; 300m has two clusters of index. Made
# once for all tests.
filled()
{
	local model=$HOST/filled-$2-${3:-8m}

	if [[ ! -e $model ]]; then
		truncate -s 8m pattern
		data write pattern 0 8m 1
		new_image model "${3:-8m}" "$2"
		place model 0 11
		place model 200 203
		data poke model $FLAGS 32 0
		mv model "$model"
	fi
	cp --sparse=always "$model" "$1"
}

# same_disk IMAGE: the disk in it, as it is now, right or wrong, is the one in $T/before.
same_disk()
{
	data disk "$1" >now
	cmp now before
}

# good IMAGE: nothing is left to say about it, here or elsewhere.
good()
{
	exits 0 check "$1"
	fails grep -q 'have no entry\|nothing is used' said
	check_image "$1"
	fails in_use "$1"
}

# not_written COMMAND...: to a.
not_written()
{
	local before

	before=$(hash_of a)
	"$@"
	[[ $(hash_of a) == "$before" ]] || fail "written: $*"
}

# only_reported STATUS: nobody writes without being asked, and --repair with -r is a mistake.
only_reported()
{
	not_written exits "$1" check a
	not_written exits "$1" check -f a
	not_written exits "$1" check -r -f a
	not_written exits 38 check -r --repair a
}

# mended STATUS: a is wrong in this way; then it is good and has the same disk.
mended()
{
	data disk a >before
	only_reported "$1"
	exits 0 check --repair a
	said repaired
	good a
	same_disk a
	not_written exits 0 check --repair a
}

# --- kinds of damage

# Two clusters with the place of a third one, and two with that of the last.
duplicate()
{
	local at

	at=$(($(entry "$1" 5) / $(unit_of "$1")))
	point "$1" 100 "$at"
	point "$1" 2 "$at"
	at=$(($(entry "$1" 200) / $(unit_of "$1")))
	point "$1" 250 "$at"
}

@test "a good image of either version: nothing to say, nothing to do" {
	local version

	for version in 1 2; do
		filled a $version
		not_written exits 0 check a
		said '16 of 256 clusters used'
		not_written exits 0 check -f a
		not_written exits 0 check -r a
		not_written exits 0 check --repair a
		good a
		rm a
	done
}

@test "clusters that share a place: each gets one of its own, with the same data" {
	local version size

	for version in 1 2; do
		for size in 8m 300m; do
			filled a $version $size
			duplicate a
			[[ $(found a duplicates) == 3 ]]
			mended 11
			[[ $(data map a | tr ' ' '\n' | awk -F: '{ n += $3 } END { print n }') == 18 ]]
			rm a
		done
	done
}

@test "clusters that share a place: their copies fill gaps first, holes stay holes" {
	filled a 2
	set_entry a 7 0
	set_entry a 8 0
	# Most of cluster 5 is a hole.
	fallocate -p -o $(($(entry a 5) * CLUSTER + 4096)) -l $((CLUSTER - 8192)) a
	duplicate a
	mended 11
	# Clusters 7, 8, and 2, which points elsewhere.
	[[ $(file_clusters a) == 17 ]]
	(($(stat -c %b a) * 512 <= 15 * CLUSTER + 3 * 8192 + 65536))
}

@test "clusters that share a place: writes to one do not reach the other any more" {
	filled a 2
	duplicate a
	exits 0 check --repair a
	qemu-img convert -f parallels -O raw a disk
	attach a
	cmp "$DEV" disk
	data write "$DEV" $((100 * CLUSTER)) "$CLUSTER" 9
	data verify "$DEV" $((5 * CLUSTER)) "$CLUSTER" 1
	data verify "$DEV" $((100 * CLUSTER)) "$CLUSTER" 9
	detach
	good a
}

@test "clusters that share a place: nobody mounts, merges or grows such an image" {
	filled a 2
	new_image top 8m 2
	duplicate a
	not_written exits 11 mount a
	said 'ploop check'
	not_written exits 11 merge top a
	said 'ploop check --repair'
	not_written exits 11 grow -s 300m a
	data poke a $IN_USE 32 $DIRTY
	not_written exits 11 mount a
	mended 11
}

@test "entries behind the disk are removed, and their clusters given back" {
	local version

	for version in 1 2; do
		filled a $version
		point a 256 5
		point a 300 40
		[[ $(found a outside_disk) == 2 ]]
		mended 11
		rm a
		filled a $version 300m
		point a 16300 4
		mended 11
		rm a
	done
}

# hopeless WHY: a is damaged, and stays so.
hopeless()
{
	only_reported 11
	not_written exits 11 check --repair a
	said "$1"
	not_written exits 11 mount a
}

@test "entries that point nowhere: nothing is repaired, whatever else is wrong" {
	filled a 2
	set_entry a 9 4000000000
	hopeless 'far behind the end'
	duplicate a
	truncate -s +100k a
	data poke a $IN_USE 32 $DIRTY
	hopeless 'restore the image from a backup'
	rm a
	filled a 2 300m
	set_entry a 9 1
	hopeless 'inside the index'
	rm a
	filled a 1
	set_entry a 9 $((3 * 64 + 1))
	hopeless 'not the start of a cluster'
}

@test "many bad entries: some are named, all are counted" {
	local clu

	filled a 2
	for ((clu = 40; clu < 60; clu++)); do
		point a $clu 3
	done
	exits 11 check a
	said '20 entries of the index are bad'
	(($(grep -c 'both at 3' said) == 10))
	mended 11
}

@test "a header that cannot be: nothing is repaired" {
	local field

	# Offset, bits and value: type, cluster size, clusters, size, first cluster.
	for field in "16 32 3" "28 32 63" "28 32 1024" "28 32 128" "32 32 255" "36 64 16383" "48 32 65" "48 32 0" "48 32 6400000"; do
		filled a 2
		# shellcheck disable=SC2086 # three arguments
		data poke a $field
		only_reported 11
		not_written exits 11 check --repair a
		[[ $(ploop check --json a 2>/dev/null | jq -r '.[0].status') == 11 ]]
		rm a
	done
	# The version that it is not: no entry is right any more.
	filled a 2
	printf WithoutFreeSpace | dd of=a conv=notrunc status=none
	only_reported 11
	not_written exits 11 check --repair a
	rm a
	filled a 1
	printf WithouFreSpacExt | dd of=a conv=notrunc status=none
	only_reported 11
	not_written exits 11 check --repair a
	printf 'no image' >a
	not_written exits 6 check --repair a
	rm a
	exits 4 check --repair a
	[[ ! -e a ]]
}

@test "left in use by a crash: with and without damage" {
	filled a 2
	data poke a $IN_USE 32 $DIRTY
	mended 37
	data poke a $IN_USE 32 1
	mended 37
	data poke a $IN_USE 32 $DIRTY
	duplicate a
	truncate -s +5000 a
	mended 11
}

@test "the file ends too early: clusters behind its end become zeros" {
	local version

	for version in 1 2; do
		filled a $version
		point a 30 25
		[[ $(found a beyond_end) == 1 ]]
		mended 11
		[[ $(file_clusters a) == 26 ]]
		truncate -s -$((CLUSTER / 2)) a
		[[ $(found a beyond_end) == 1 && $(found a ragged) == true ]]
		mended 11
		rm a
	done
}

@test "the file ends within a cluster" {
	filled a 2
	truncate -s +5000 a
	mended 11
}

@test "lost clusters are no damage; a repair gives them back" {
	local before

	filled a 2
	set_entry a 5 0
	set_entry a 9 0
	sync a
	before=$(stat -c %b a)
	[[ $(found a lost) == 2 && $(found a tail) == 0 ]]
	mended 0
	# The file system may need a block to note it.
	(($(stat -c %b a) * 512 <= before * 512 - 2 * CLUSTER + 8192))
	# In reverse order: the last one of the file.
	set_entry a 200 0
	truncate -s +1m a
	[[ $(found a tail) == 33 ]]
	mended 0
	[[ $(file_clusters a) == 16 ]]
	# A hole is no loss.
	set_entry a 7 0
	mended 0
	[[ $(found a lost) == 0 ]]
}

@test "a header that says empty" {
	filled a 2
	data poke a $FLAGS 32 1
	[[ $(found a false_empty) == true ]]
	mended 0
	[[ $(data peek a $FLAGS 32) == 0 ]]
}

# An image with an extension behind its last cluster.
extended()
{
	filled "$1" 2
	data poke "$1" $IN_USE 32 $WITH_EXTENSION
	data poke "$1" $EXTENSION 64 $(($(file_clusters "$1") * 64))
	truncate -s "+$CLUSTER" "$1"
}

@test "an extension behind the last cluster is not lost, but goes with the first repair that it does not survive" {
	extended a
	only_reported 0
	not_written exits 0 check --repair a
	duplicate a
	mended 11
	[[ $(data peek a $EXTENSION 64) == 0 ]]
}

@test "an extension goes when the driver uses the image, and nobody looks for it any more" {
	extended a
	not_written attach -r a
	not_written detach
	attach a
	[[ $(data peek a $EXTENSION 64) == 0 ]]
	data write "$DEV" $((50 * CLUSTER)) "$CLUSTER" 9
	detach
	[[ $(data peek a $EXTENSION 64) == 0 ]]
	fails in_use a
	check_image a
}

@test "stacks: sizes, versions, cluster sizes, one file twice" {
	filled a 2
	filled b 2 300m
	new_image c 300m 2
	filled v1 1
	CL=7 new_image large 300m 2
	exits 0 check a b c
	(($(grep -c 'clusters used' said) == 3))
	exits 38 check b a
	said 'smaller than'
	exits 38 check a v1
	said 'version'
	exits 38 check a large
	said 'clusters of 128 sectors'
	exits 38 check a b a
	said 'given twice'
	exits 38 check --repair a b a
	ln -s a also-a
	exits 38 check --repair a also-a
	# The first verdict counts, but all are looked at.
	duplicate b
	exits 11 check b a missing
	said 'smaller than'
	said missing
	exits 0 check --repair a b c
	good b
}

@test "JSON" {
	filled a 2
	filled b 2
	duplicate a
	set_entry b 3 0
	[[ $(ploop check --json a b 2>/dev/null | jq -c 'map([.status, .clusters, .clusters_used, .duplicates, .lost, .repaired])') == '[[11,256,18,3,1,false],[0,256,15,0,1,false]]' ]]
	[[ $(ploop check --json --repair a b 2>/dev/null | jq -c 'map([.status, .duplicates, .lost, .repaired, .in_use])') == '[[0,0,0,true,false],[0,0,0,true,false]]' ]]
	[[ $(ploop check --json missing a 2>/dev/null | jq -c 'map([.status, .image])') == "[[4,\"missing\"],[0,\"$T/a\"]]" ]]
}

@test "files of an attached image are refused, but for those that are only read" {
	filled a 2
	new_image b 8m 2
	exits 0 mount a b
	exits 37 check b
	exits 37 check --repair b
	exits 37 check --repair a
	exits 0 check a
	exits 0 umount b
	exits 0 check --repair a b
}

# --- a repair that ends early

# All at once, but for what cannot be repaired.
all_damage()
{
	filled a "$1" "$2"
	set_entry a 9 0
	set_entry a 10 0
	duplicate a
	point a $(($(data peek a 32 32) + 5)) 7
	point a 60 30
	truncate -s +5000 a
	data poke a $FLAGS 32 1
	data disk a >before
}

# killed_at CALL N: the repair of a copy, before its Nth call of this name in any thread. Sets STATUS.
killed_at()
{
	STATUS=0
	cp --sparse=always a b
	strace -f -qq -e trace="$1" -e inject="$1:signal=KILL:when=$2" -o trace "$PLOOP" check --repair b >said 2>&1 3>&- ||
		STATUS=$?
}

# damage IMAGE: how much there is of each kind that counts.
damage() { ploop check --json "$1" 2>/dev/null | jq -r '.[0] | .duplicates, .outside_disk, .beyond_end, .nowhere'; }

# No worse than a: the same disk, no more of any damage; and the next repair succeeds.
no_worse()
{
	local i now

	same_disk b || fail "the disk is another one" || return 1
	mapfile -t now < <(damage b)
	((${#now[@]} == 4)) || fail "it cannot be checked" || return 1
	for i in "${!now[@]}"; do
		((now[i] <= BEFORE[i])) || fail "damage: ${now[*]}, before ${BEFORE[*]}" || return 1
	done
	exits 0 check --repair b
	good b
	same_disk b
}

kill_all()
{
	local call n kills=0

	mapfile -t BEFORE < <(damage a)
	for call in pwrite64 fsync ftruncate fallocate; do
		for ((n = 1; n < 50; n++)); do
			killed_at $call $n
			((STATUS == 137)) || break
			kills=$((kills + 1))
			no_worse || fail "after $call $n: $(<trace)"
		done
		# There was no Nth call.
		((STATUS == 0)) || fail "$call $n: exit status $STATUS: $(<said)"
		good b
		same_disk b
	done
	echo "# killed $kills times"
	((kills >= 10))
}

@test "a repair killed at each of its writes leaves an image that is no worse" {
	all_damage 2 8m
	kill_all
}

@test "a repair killed at each of its writes, version 1, two clusters of index, left in use" {
	all_damage 1 300m
	data poke a $IN_USE 32 $DIRTY
	kill_all
}

# order PATTERN: of what the repair of a does: data of the file, header, index pages, cuts, holes, syncs.
order()
{
	local got

	strace -f -qq -e trace=pwrite64,fsync,ftruncate,fallocate -o trace "$PLOOP" check --repair a >said 2>&1 3>&-
	got=$(awk -v index_end=$((2 * CLUSTER)) '
		/fsync\(/ { c = "s" }
		/ftruncate\(/ { c = "t" }
		/fallocate\(/ { c = "p" }
		/pwrite64\(/ {
			# Or "unfinished", where threads write at once.
			match($0, /, [0-9]+, [0-9]+(\)| <)/)
			split(substr($0, RSTART + 2, RLENGTH - 3), n, ", ")
			c = n[1] == 64 ? "H" : n[2] < index_end ? "I" : "d"
		}
		/fsync\(|ftruncate\(|fallocate\(|pwrite64\(/ { printf "%s", c }' trace)
	[[ $got =~ $1 ]] || fail "$got is not $1"
}

@test "each step of a repair is durable before the next one" {
	# Extended, and the same for the copies; their holes may be punched.
	all_damage 2 300m
	order '^Hs(ts)?t?[dp]+sI+s[tp]*s*Hs$'
	rm a
	filled a 2 300m
	set_entry a 4 0
	order '^Hsp+sHs$'
}

@test "no space for copies: the image stays as it was" {
	local disk

	disk=$(scratch_disk small 16m)
	make_fs ext4 "$disk" "$T/small"
	losetup -d "$disk"
	filled a 2
	duplicate a
	cp a small/a
	data disk a >before
	dd if=/dev/zero of=small/ballast bs=4k status=none 2>/dev/null || true
	fails ploop check --repair small/a
	same_disk small/a
	rm small/ballast
	exits 0 check --repair small/a
	good small/a
	same_disk small/a
}
