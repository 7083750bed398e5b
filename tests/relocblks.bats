#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# RELOCBLKS: the file becomes shorter by what it says, and all data are where they were; under load, interrupted, aborted,
# on a full host, cut off by a crash. With clusters of 32 KiB, 32 of them in a MiB.

load helpers
load stack
load balloon

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
	finish
}

# What the device shows becomes the reference.
remember() { dd if="$DEV" of="$T/reference" bs=1M iflag=direct status=none; }

# no_owner_twice FILE: no cluster of the file belongs to two of the disk, none lies in the index.
no_owner_twice()
{
	data map "$1" | awk -F: -v next_free="$(index_clusters "$1")" '
		$2 < next_free { print "cluster " $2 " has two owners, or is the index"; bad = 1 }
		{ next_free = $2 + $3 }
		END { exit bad }'
}

# relocated CLUSTERS FILE...: it is over, and the last of these files has so many clusters.
relocated()
{
	local files=("${@:2}")

	balloon_is OFF
	[[ $(file_clusters "${files[-1]}") == "$1" ]] || fail "${files[-1]} has $(file_clusters "${files[-1]}") clusters, not $1"
	same_as_reference
	no_owner_twice "${files[-1]}"
	detach
	[[ $(file_clusters "${files[-1]}") == "$1" ]] || fail "detached: $(file_clusters "${files[-1]}") clusters, not $1"
	check_image "${files[@]}"
	attach "${files[@]}"
	same_as_reference
}

# relocates VERSION: 24 MiB of data, 8 given up at the front.
relocates()
{
	new_image "$T/a" 32m "$1"
	attach "$T/a"
	data write "$DEV" 0 24m 1
	give_up "$T/a" 0 256
	((HEAD == 769))
	remember
	data verify "$DEV" 0 8m 0
	data verify "$DEV" 8m 16m 1
	[[ $(relocate "$T/a") == 256 ]]
	relocated 513 "$T/a"
	# The device goes on: the next data come behind, and what was never written is zeros.
	data write-every "$DEV" 64k 128 2
	data verify-every "$DEV" 64k 128 2
	data verify "$DEV" $((127 * 65536 + 4096)) 60k 0
	data verify "$DEV" 8m 16m 1
}

@test "RELOCBLKS of the whole file" { relocates 2; }

@test "RELOCBLKS of the whole file: version 1" { relocates 1; }

# with_snapshot VERSION: the top alone becomes shorter.
with_snapshot()
{
	local hash

	VERSION=$1
	new_image "$T/a" 32m "$1"
	attach "$T/a"
	data write "$DEV" 0 16m 1
	snapshot "$T/b"
	hash=$(hash_of "$T/a")
	data write "$DEV" 8m 16m 2
	# One half of it hides data of the base.
	give_up "$T/b" 384 640
	((LEVEL == 1))
	remember
	data verify "$DEV" 8m 4m 2
	data verify "$DEV" 16m 4m 0
	data verify "$DEV" 20m 4m 2
	[[ $(relocate "$T/b") == 256 ]]
	[[ $(hash_of "$T/a") == "$hash" ]]
	relocated 257 "$T/a" "$T/b"
	[[ $(hash_of "$T/a") == "$hash" ]]
}

@test "RELOCBLKS with a snapshot: the top becomes shorter, the lower delta stays" { with_snapshot 2; }

@test "RELOCBLKS with a snapshot: version 1" { with_snapshot 1; }

@test "the window: the file does not become shorter than that, nor than what is in use" {
	new_image "$T/a" 16m
	attach "$T/a"
	data write "$DEV" 0 12m 1
	# More holes than the window is long.
	give_up "$T/a" 0 128
	remember
	[[ $(relocate "$T/a" 50) == 50 ]]
	relocated 335 "$T/a"
	# More in use than there are holes now: 78 are left of before.
	give_up "$T/a" 150 155
	remember
	((HEAD == 335))
	[[ $(relocate "$T/a") == 83 ]]
	relocated 252 "$T/a"
	# Nothing to look at: nothing is cut, whatever is free.
	give_up "$T/a" 200 250
	remember
	[[ $(relocate "$T/a" 0) == 0 ]]
	same_as_reference
	balloon_is OFF
	# No free block, but holes.
	give_up "$T/a"
	((HEAD == 252))
	[[ $(relocate "$T/a") == 50 ]]
	relocated 202 "$T/a"
	# And none at all.
	give_up "$T/a"
	[[ $(relocate "$T/a") == 0 ]]
	relocated 202 "$T/a"
}

@test "the end of the file is given up: nothing moves, an empty list will do" {
	local last

	new_image "$T/a" 16m
	attach "$T/a"
	data write "$DEV" 0 12m 1
	expect OK "$DEV" sync
	# The owners of the last fifty.
	inflated
	mapfile -t last < <(owners "$T/a" 335 385)
	load_list "${last[@]}"
	remember
	[[ $(ioctl "$DEV" relocblks 0 385 50) == 50 ]]
	relocated 335 "$T/a"
	# All of it.
	give_up "$T/a" 0 512
	remember
	[[ $(relocate "$T/a") == 334 ]]
	relocated 1 "$T/a"
	data verify "$DEV" 0 16m 0
	data write "$DEV" 0 16m 2
	data verify "$DEV" 0 16m 2
}

# Partitions: what is given up, and what the load knows.
two_partitions()
{
	sfdisk -q "$DEV" <<<$'label: gpt\nstart=1MiB, size=24MiB\nsize=36MiB\n'
	udevadm settle
	wait_for 10 test -b "${DEV}p2"
}

# under_load VERSION [IMAGE-BELOW]: the load writes, zeroes, discards, flushes; so do we.
under_load()
{
	local top=$T/a files=("$T/a") disk cut before

	VERSION=$1
	new_image "$T/a" 64m "$VERSION"
	attach "$T/a"
	disk=$DEV
	two_partitions
	if [[ ${2:-} ]]; then
		data write "${DEV}p2" 0 36m 7
		snapshot "$T/b"
		top=$T/b files+=("$T/b")
	fi
	data write "${DEV}p1" 0 24m 1
	data write "${DEV}p2" 0 36m 2
	dd if="${DEV}p2" of="$T/reference" bs=1M iflag=direct status=none
	DEV=${disk}p2 load_begin 3 400
	give_up "$top" 32 800
	scan "$top"
	echo 2 >"$SYS/ptune/fsync_max"
	before=$(stat_of bio_out)
	issue relocblks "$LEVEL" "$HEAD" "$SCANNED" "${TAIL[@]}"
	while kill -0 "$WAITER" 2>/dev/null; do
		expect OK "$DEV" sync
	done
	wait "$WAITER" || fail "$(<"$ANSWER")"
	cut=$(<"$ANSWER")
	((cut > 256 && $(stat_of bio_out) > before)) || fail "cut $cut"
	loaded || fail "the load was over before the relocation"
	balloon_is OFF
	DEV=${disk}p2 load_over
	data verify "${DEV}p1" 0 24m 0
	detach
	check_image "${files[@]}"
	no_owner_twice "$top"
	attach "${files[@]}"
	wait_for 10 test -b "${DEV}p2"
	cmp "${DEV}p2" "$T/reference"
}

@test "RELOCBLKS under load and FLUSH" { under_load 2; }

@test "RELOCBLKS under load and FLUSH: version 1" { under_load 1; }

@test "RELOCBLKS under load and FLUSH, with a snapshot" { under_load 2 below; }

# In the log of stamps.
epochs() { grep -c '^c' "$T/journal" || true; }
more_epochs() { (($(epochs) > $1)); }

@test "RELOCBLKS beside a writer that needs new clusters: half of what was given up is cut at least" {
	local stamps=$TOP/build/tests/crash/stamps writer cut

	new_image "$T/a" 128m
	attach "$T/a"
	"$stamps" fill "$DEV" "$T/journal" 64m 16m
	"$stamps" write "$DEV" "$T/journal" 48m 250 1 1
	"$stamps" write "$DEV" "$T/journal" 48m 6 0 2 3>&- &
	writer=$!
	HELPERS+=("$writer")
	wait_for 20 more_epochs 3
	give_up "$T/a" 2048 2560
	cut=$(relocate "$T/a")
	echo "# $cut clusters cut, $(epochs) epochs"
	wait_for 20 more_epochs "$(epochs)"
	kill $writer
	wait $writer
	((cut > 256)) || fail "cut $cut"
	"$stamps" verify "$DEV" "$T/journal"
	detach
	check_image "$T/a"
	no_owner_twice "$T/a"
	attach "$T/a"
	"$stamps" verify "$DEV" "$T/journal"
}

# held_reloc: 16 MiB given up, 48 in the file; held up after some of the 512 clusters have moved.
held_reloc()
{
	new_image "$T/a" 64m
	attach "$T/a"
	data write "$DEV" 0 48m 1
	give_up "$T/a" 0 512
	remember
	scan "$T/a"
	pause relocblks "$LEVEL" "$HEAD" "$SCANNED" "${TAIL[@]}"
}

again() { ioctl "$DEV" relocblks "$LEVEL" "$HEAD" 0; }

# all_moved: the driver is ready, and nobody has asked for it.
all_moved()
{
	local moved total

	read -r moved total <"$SYS/pstate/progress"
	((moved == total))
}

@test "while it goes on: progress, reads, nothing else; a signal ends the wait, the same call waits on" {
	local args

	held_reloc
	for args in "0 0" "0 1" "0 2" "1 0"; do
		# shellcheck disable=SC2086
		expect "RELOC $HEAD 0" "$DEV" balloon $args
	done
	expect EBUSY "$DEV" freeblks 0
	expect EINVAL "$DEV" fbdrop
	expect EINVAL "$DEV" fbfilter 0
	expect EBUSY "$DEV" discard-init
	expect EBUSY "$DEV" raw 0x40185004 0
	expect EBUSY "$DEV" merge
	expect EBUSY "$DEV" grow 262144 cl=6
	expect EBUSY "$DEV" del 0
	expect EBUSY "$DEV" stop
	expect EBUSY "$DEV" clear
	amid
	# What does not move.
	timeout 60 "$DATA" verify "$DEV" 16m 8m 1
	timeout 60 "$DATA" verify "$DEV" 0 16m 0
	timeout 60 "$DATA" verify "$DEV" 48m 16m 0
	kill -USR1 "$WAITER"
	waiter_says EINTR
	balloon_is RELOC "$HEAD" 0
	expect EINVAL "$DEV" relocblks 1 "$HEAD" 0
	expect EINVAL "$DEV" relocblks 0 $((HEAD - 1)) 0
	expect EINVAL "$DEV" relocblks 0 0 0
	balloon_is RELOC "$HEAD" 0
	issue relocblks 0 "$HEAD" 0
	thaw
	waiter_says 512
	expect EINVAL "$DEV" relocblks 0 "$HEAD" 0
	relocated 1025 "$T/a"
}

# waits_in_ioctl PID
waits_in_ioctl() { grep -q '^16 ' "/proc/$1/syscall" && grep -q '^State:.S' "/proc/$1/status"; }

@test "two callers wait: one gets the answer, the other EALREADY" {
	local second

	held_reloc
	"$IOCTL" "$DEV" relocblks 0 "$HEAD" 0 >"$BATS_TEST_TMPDIR/second" 2>&1 3>&- &
	second=$!
	wait_for 10 waits_in_ioctl $second
	thaw
	wait "$WAITER" || true
	wait $second || true
	[[ $(sort "$ANSWER" "$BATS_TEST_TMPDIR/second" | xargs) == "512 EALREADY" ]]
	relocated 1025 "$T/a"
}

@test "SIGKILL of who waits: it goes on, and the next call has the answer" {
	held_reloc
	kill -KILL "$WAITER"
	wait "$WAITER" || true
	thaw
	wait_for 60 all_moved
	balloon_is RELOC "$HEAD" 0
	[[ $(again) == 512 ]]
	relocated 1025 "$T/a"
}

@test "STOP of a relocation that nobody waits for: OFF, nothing is lost, it can be done again" {
	held_reloc
	kill -KILL "$WAITER"
	wait "$WAITER" || true
	expect EBUSY "$DEV" stop
	thaw
	wait_for 60 all_moved
	stop
	balloon_is OFF
	no_owner_twice "$T/a"
	check_image "$T/a"
	expect OK "$DEV" start
	same_as_reference
	give_up "$T/a"
	relocate "$T/a"
	relocated 1025 "$T/a"
}

@test "an aborted relocation is EIO; nothing is lost, and it can be done again" {
	held_reloc
	echo 1 >"$SYS/pstate/aborted"
	thaw
	waiter_says EIO
	balloon_is OFF
	same_as_reference
	stop || true
	expect OK "$DEV" clear
	in_use "$T/a"
	data poke "$T/a" 44 32 0
	no_owner_twice "$T/a"
	attach "$T/a"
	same_as_reference
	give_up "$T/a"
	relocate "$T/a"
	relocated 1025 "$T/a"
}

@test "a relocation cut off by a crash: all data, one owner each, and it can be done again" {
	held_reloc
	crash_copy "$T/a"
	waiter_says 512
	relocated 1025 "$T/a"
	detach
	mv "$T/a.crash" "$T/a"
	no_owner_twice "$T/a"
	attach "$T/a"
	same_as_reference
	balloon_is OFF
	data write "$DEV" 60m 4m 4
	data verify "$DEV" 60m 4m 4
	blkdiscard "$DEV" -o 60m -l 4m
	same_as_reference
	expect OK "$DEV" sync
	detach
	attach "$T/a"
	give_up "$T/a"
	relocate "$T/a"
	relocated 1025 "$T/a"
}

ended() { ! kill -0 "$1" 2>/dev/null; }

@test "a full host is no obstacle: what was given up makes room" {
	local small

	small=$(scratch_disk small 96m)
	make_fs ext4 "$small" "$T/small"
	new_image "$T/small/a" 64m
	attach "$T/small/a"
	data write "$DEV" 0 32m 1
	expect OK "$DEV" sync
	fallocate -l $(($(stat -f -c '%a * %S' "$T/small") - 262144)) "$T/small/ballast"
	give_up "$T/small/a" 0 512
	remember
	scan "$T/small/a"
	issue relocblks "$LEVEL" "$HEAD" "$SCANNED" "${TAIL[@]}"
	wait_for 60 ended "$WAITER" || rm "$T/small/ballast"
	waiter_says 512
	[[ -e $T/small/ballast ]]
	(($(stat -f -c '%a * %S' "$T/small") > 12 * 1048576))
	relocated 513 "$T/small/a"
	detach
	umount "$T/small"
	losetup -d "$small"
}

@test "what is written between FREEBLKS and the end of the relocation is kept" {
	local cut

	new_image "$T/a" 64m
	attach "$T/a"
	data write "$DEV" 0 48m 1
	give_up "$T/a" 0 512
	# Over what was given up, over what stays, to where nothing was.
	data write "$DEV" 1m 1m 2
	data write "$DEV" 40m 1m 2
	data write "$DEV" 50m 1m 2
	blkdiscard -o 44m -l 1m "$DEV"
	remember
	cut=$(relocate "$T/a")
	((cut >= 448)) || fail "cut $cut"
	balloon_is OFF
	data verify "$DEV" 1m 1m 2
	data verify "$DEV" 2m 14m 0
	relocated "$(file_clusters "$T/a")" "$T/a"
	data verify "$DEV" 44m 1m 0
	# The 1023 in use, or little more.
	(($(file_clusters "$T/a") <= 1024 + 64 + 1))
}
