#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Merge and grow of images that are not attached: data, what is refused before anything is written, holes, shared
# blocks, and what is left when the program is killed.

load helpers
load stack

PLOOP=$TOP/userspace/ploop
IN_USE=44
DIRTY=0x746f6e59

setup_file() { host_up 4g; }
teardown_file() { host_down; }

setup()
{
	begin
	cd "$T" || return
	# Small, so that an index has several.
	clusters 6
}

teardown()
{
	cd /
	drop_devices
	[[ ! ${SMALL:-} ]] || small_host_down
	finish
}

small_host()
{
	SMALL=$(scratch_disk "small$BATS_TEST_NUMBER" "$2")
	make_fs "$1" "$SMALL" "$T/small"
}

small_host_down()
{
	! mountpoint -q "$T/small" || umount "$T/small"
	losetup -d "$SMALL"
	SMALL=
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

# A raw base has its name.
is_raw() { [[ $1 == *.raw ]]; }

# on FILE... -- ARG...: data with the disk of these images; writes go to the last one.
on()
{
	local files=()

	while [[ $1 != -- ]]; do
		files+=("$1")
		shift
	done
	shift
	attach "${files[@]}"
	data "$1" "$DEV" "${@:2}"
	detach
}

# three VERSION [BASE]: base of 8 MiB, middle of 8 MiB and a top of 300 MiB, whose index takes two clusters. Cluster 0
# and some more are in all of them, and there are zeros and holes above data.
three()
{
	local base=${2:-base}

	if is_raw "$base"; then
		truncate -s 8m "$base"
	else
		new_image "$base" 8m "$1"
	fi
	new_image middle 8m "$1"
	new_image top 300m "$1"
	on "$base" -- write 0 6m 1
	attach "$base" middle
	data write "$DEV" 0 1m 2
	data write "$DEV" 3m 1m 2
	detach
	attach "$base" middle top
	data write "$DEV" 0 64k 3
	data write "$DEV" 3584k 1m 3
	data write "$DEV" 290m 2m 3
	# A hole in the top's cluster, over data of the base.
	data write "$DEV" 5m 4k 3
	blkdiscard -z -o $((5 * 1048576 + 4096)) -l 28k "$DEV"
	detach
}

# three_are FILE...: the disk of these has what three wrote.
three_are()
{
	attach -r "$@"
	data verify "$DEV" 0 64k 3
	data verify "$DEV" 64k 960k 2
	data verify "$DEV" 1m 2m 1
	data verify "$DEV" 3m 512k 2
	data verify "$DEV" 3584k 1m 3
	data verify "$DEV" $((4608 * 1024)) 512k 1
	data verify "$DEV" 5m 4k 3
	data verify "$DEV" $((5 * 1048576 + 4096)) 28k 0
	data verify "$DEV" $((5 * 1048576 + 32768)) 992k 1
	data verify "$DEV" 6m 16m 0
	data verify "$DEV" 289m 1m 0
	data verify "$DEV" 290m 2m 3
	data verify "$DEV" 292m 8m 0
	detach
}

# good IMAGE...: closed, and nothing is wrong with it.
good()
{
	local image

	for image; do
		is_raw "$image" && continue
		exits 0 check "$image"
		check_image "$image"
	done
}

# unchanged COMMAND...: nothing was written to the images; reading them all each time would take long.
unchanged()
{
	local before

	before=$(stat -c '%n %s %y %z' base* middle top)
	"$@"
	[[ $(stat -c '%n %s %y %z' base* middle top) == "$before" ]] || fail "written to by $*"
}

@test "merge: three levels, a smaller base, both versions" {
	local version hash

	for version in 1 2; do
		three $version
		hash=$(hash_of middle)$(hash_of top)
		exits 0 merge top middle base
		said "$(realpath base)"
		said "$(realpath middle)"
		three_are base
		good base
		[[ $(data peek base 36 32) == 614400 && $(data peek base 48 32) == 128 ]]
		# The sources are as before, and a second time changes nothing.
		[[ $hash == "$(hash_of middle)$(hash_of top)" ]]
		exits 0 merge top middle base
		three_are base
		good base
		rm base middle top
	done
}

@test "merge step by step, also with images that a crash left in use" {
	three 2
	data poke top $IN_USE 32 $DIRTY
	data poke middle $IN_USE 32 $DIRTY
	exits 0 merge top middle
	said 'top: recovered'
	said 'middle: recovered'
	three_are base middle
	good middle
	data poke base $IN_USE 32 $DIRTY
	exits 0 merge middle base
	said 'base: recovered'
	three_are base
	good base
}

@test "merge into a raw base" {
	three 2 base.raw
	unchanged exits 11 merge top middle base.raw
	exits 0 merge -f raw top middle base.raw
	three_are base.raw
	[[ $(stat -c %s base.raw) == $((300 * 1048576)) ]]
	# It has only what was written: 6 MiB below, less than 4 above.
	(($(stat -c %b base.raw) < 12 * 2048))
}

@test "merge: holes stay holes, old data below them become zeros, free clusters are used first" {
	three 2
	# 100 clusters that nothing refers to, full of other things.
	local size
	size=$(stat -c %s base)
	data write base "$size" 3200k 99
	exits 0 merge top middle base
	three_are base
	(($(stat -c %s base) <= size + 3200 * 1024))
	exits 0 check base
	fails data dense base 0 "$(stat -c %s base)"
}

@test "merge refuses what does not fit, and has written nothing" {
	three 2
	new_image v1 300m 1
	clusters 7
	new_image other 300m 2
	clusters 6
	unchanged exits 38 merge base middle top
	said 'topmost first'
	unchanged exits 38 merge middle top base
	unchanged exits 38 merge top base top
	said twice
	unchanged exits 38 merge v1 base
	said "v1 is of version 1.*base is of version 2"
	unchanged exits 38 merge other base
	said 'other has clusters of 128 sectors.*base has 64'
	unchanged exits 38 merge -f raw top base
	unchanged exits 38 merge top
	unchanged exits 38 merge -l 0..1 top base
	unchanged exits 38 merge -f qcow2 top base
	unchanged exits 4 merge top nothing
	truncate -s 300m top.raw
	unchanged exits 11 merge top.raw base
	# Damage is found first.
	cp top damaged
	set_entry damaged 0 "$(entry damaged 1)"
	unchanged exits 11 merge damaged base
	cp base base-damaged
	set_entry base-damaged 0 "$(entry base-damaged 1)"
	unchanged exits 11 merge top base-damaged
	# Attached.
	attach base middle
	unchanged exits 37 merge top base
	unchanged exits 37 merge middle base
	detach
	hold base lock ro
	unchanged exits 17 merge top base
	let_go
	good base middle top
}

@test "mount refuses a stack in the wrong order, and one that an interrupted merge left" {
	three 2
	exits 38 mount top middle base
	exits 38 mount base top middle
	exits 0 grow -s 300m base
	exits 38 mount base middle top
	said 'run it again'
	exits 0 merge top middle base
	three_are base
}

@test "grow: clusters make room for a larger index" {
	local version size

	for version in 1 2; do
		new_image a 8m $version
		on a -- write 0 7m 1
		# From one cluster of index to 33.
		exits 0 grow -s 8g a
		said '16777216 sectors'
		good a
		[[ $(data peek a 36 32) == 16777216 && $(data peek a 48 32) == $((33 * 64)) ]]
		on a -- verify 0 7m 1
		on a -- verify 7m 64m 0
		on a -- write 7g 1m 2
		# Up to the end of what the index has room for: only the header changes.
		exits 0 grow -s $((16777216 + 64)) a
		on a -- verify 7g 1m 2
		on a -- verify 0 7m 1
		good a
		size=$(stat -c %s a)
		exits 0 grow -s $((16777216 + 1)) a
		said 'already'
		[[ $(stat -c %s a) == "$size" ]]
		exits 38 grow -s 8g a
		said 'can only grow'
		exits 0 grow -s $((16777216 + 65)) a
		said 'rounded up to 16777344'
		rm a
	done
	new_image a 8m 1
	exits 38 grow -s 2t a
	said 'version 2'
	fails in_use a
	good a
}

@test "grow refuses what is no image, attached, locked or damaged" {
	new_image a 8m
	on a -- write 0 1m 1
	exits 38 grow -s 1g -f raw a
	exits 38 grow a
	exits 38 grow -s 1g
	exits 38 grow -s 1g a a
	exits 38 grow -s 0 a
	exits 4 grow -s 1g nothing
	truncate -s 8m a.raw
	exits 11 grow -s 1g a.raw
	cp a damaged
	set_entry damaged 0 "$(entry damaged 1)"
	exits 11 grow -s 9m damaged
	exits 11 grow -s 1g damaged
	# Behind the last entry, where a larger disk would find it.
	cp a damaged
	set_entry damaged 300 "$(($(stat -c %s a) / 32768))"
	truncate -s +32k damaged
	exits 11 grow -s 16m damaged
	attach a
	exits 37 grow -s 1g a
	detach
	data poke a $IN_USE 32 $DIRTY
	exits 0 grow -s 1g a
	said recovered
	on a -- verify 0 1m 1
	good a
}

@test "grow of a raw image" {
	local old

	truncate -s 8m a.raw
	data write a.raw 0 8m 1
	exits 0 grow -s 32m -f raw a.raw
	[[ $(stat -c %s a.raw) == $((32 * 1048576)) ]]
	data verify a.raw 0 8m 1
	data verify a.raw 8m 24m 0
	old=$(hash_of a.raw)
	exits 38 grow -s 16m -f raw a.raw
	exits 0 grow -s 32m -f raw a.raw
	[[ $(hash_of a.raw) == "$old" ]]
	# Of an odd size: to whole blocks, with zeros from its very end on.
	head -c 1000000 a.raw >odd.raw
	exits 0 grow -s 4096 -f raw odd.raw
	[[ $(stat -c %s odd.raw) == $((2048 * 1024)) ]]
	cmp -n 1000000 odd.raw a.raw
	cmp -i 1000000:0 -n $((2048 * 1024 - 1000000)) odd.raw /dev/zero
}

# killed_after MILLISECONDS ARG...: false when ploop was quicker.
killed_after()
{
	local pid status=0

	"$PLOOP" "${@:2}" >"$T/said" 2>&1 3>&- &
	pid=$!
	sleep "$(printf '0.%03d' "$1")"
	kill -KILL $pid 2>/dev/null || true
	wait $pid || status=$?
	((status == 0 || status == 137)) || fail "status $status: $(<"$T/said")"
	((status == 137))
}

# Of each operation: 10 take minutes.
KILLS=${OFFLINE_KILLS:-3}

# kills CHECK ARG...: at random moments of a command; CHECK must succeed after each. The images are kept in pristine, to
# begin anew when the command was quicker. At the end it runs undisturbed.
kills()
{
	local hits=0 tries=0 ms start

	mkdir pristine timed
	cp base* middle* top* pristine 2>/dev/null || [[ -e pristine/${*: -1} ]]
	cp pristine/* timed
	start=${EPOCHREALTIME/./}
	(cd timed && exits 0 "${@:2}")
	ms=$(((${EPOCHREALTIME/./} - start) / 1000 + 1))
	rm -r timed
	while ((hits < KILLS)); do
		((++tries <= 100)) || fail "only $hits kills" || return 1
		if killed_after $((RANDOM * ms / 32768 % 1000)) "${@:2}"; then
			hits=$((hits + 1))
		else
			cp pristine/* .
			ms=$((ms * 4 / 5 + 1))
		fi
		"$1"
	done
	echo "# killed $hits times in $tries runs" >&3
	exits 0 "${@:2}"
	rm -r pristine
}

# Recovered as mount does it, base and stack hold what they did.
whole_stack()
{
	exits 0 mount -r base middle top || return 1
	exits 0 umount base || return 1
	three_are base middle top
}

@test "kills of a merge: the stack is good each time, and the next run completes" {
	three 2
	# Not larger than the images above, so that all can be mounted at any moment.
	exits 0 grow -s 300m middle
	exits 0 grow -s 300m base
	kills whole_stack merge top middle base
	three_are base
	good base
	rm base middle top
	# The base has to grow too.
	three 1
	kills base_is_sound merge top middle base
	three_are base
	good base
}

# Closed, or marked in use: not damaged.
base_is_sound() { ploop check base >/dev/null 2>"$T/said" || [[ $? == 37 ]] || fail "$(<"$T/said")"; }

@test "kills of a merge into a raw base" {
	three 2 base.raw
	kills true merge -f raw top middle base.raw
	three_are base.raw
}

grown_or_not()
{
	exits 0 mount base
	exits 0 umount base
	attach -r base
	data verify "$DEV" 0 7m 1
	detach
}

@test "kills of a grow: the image is good each time, of either size, and the next run completes" {
	local version

	for version in 1 2; do
		new_image base 8m $version
		on base -- write 0 7m 1
		kills grown_or_not grow -s 60g base
		on base -- verify 0 7m 1
		on base -- verify 7m 64m 0
		good base
		rm base
	done
}

@test "a signal ends the work at a safe point" {
	local pid status=0

	three 2
	new_image big 300m
	on big -- write 0 200m 5
	exits 0 grow -s 300m base
	"$PLOOP" merge big base >"$T/said" 2>&1 3>&- &
	pid=$!
	wait_for 10 in_use base
	kill -TERM $pid
	wait $pid || status=$?
	[[ $status == 34 ]] || fail "status $status: $(<"$T/said")"
	said 'run the same command again'
	fails in_use base
	good base
	exits 0 merge big base
	on base -- verify 0 200m 5
	good base
}

# shares FILE: does it share blocks?
shares() { [[ $(ploop info --json "$1" | jq -r .shares_blocks) == true ]]; }

# merged_on TYPE: with copies nothing is shared, with --reflink it is, and the data are the same.
merged_on()
{
	has_fs "$1" || skip "this kernel has no $1"
	small_host "$1" 600m
	cd "$T/small" || return
	three 2
	cp --reflink=never base base-2
	exits 0 merge top middle base
	fails shares base
	fails shares top
	three_are base
	good base
	exits 0 merge --reflink top middle base-2
	shares base-2
	shares top
	exits 0 info base-2
	said 'shares blocks'
	three_are base-2
	good base-2
	cd "$T" || return
}

@test "xfs: blocks are shared with --reflink only" {
	merged_on xfs
}

@test "btrfs: blocks are shared with --reflink only" {
	merged_on btrfs
}

@test "--reflink where blocks cannot be shared copies them" {
	three 2
	exits 0 merge --reflink top middle base
	said 'cannot share'
	three_are base
	good base
}
