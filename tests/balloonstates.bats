#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Each state that `ploop balloon status` reports, what is refused in it, and what leaves it; change killed at each of its
# steps.

load helpers
load stack
load balloon
load balloonfs

setup_file() { host_up 20g; }
teardown_file() { host_down; }

# A state that a client left behind, put there by the ioctl program.
left_in()
{
	case $1 in
	BALLOON) inflated ;;
	FBLOADED) give_up a.img 150 256 ;;
	DISCARD) expect OK "$DEV" discard-init ;;
	esac
	status_is "$1"
}

# Others say what the state is and what to do.
others_refuse()
{
	for command in "snapshot -d $DEV b.img" "merge -d $DEV" "grow -s 1g -d $DEV"; do
		# shellcheck disable=SC2086 # options
		exits 17 $command
		mentions "state $1"
		mentions "ploop balloon $2"
	done
	[[ ! -e b.img ]]
	status_is "$1"
}

@test "status BALLOON: clear leaves it, check and change take it over" {
	fragmented
	left_in BALLOON
	others_refuse BALLOON clear
	exits 0 balloon complete -d "$DEV"
	says_line "Nothing to complete: the state of in-kernel maintenance is BALLOON"
	status_is BALLOON
	exits 0 balloon clear -d "$DEV" -m mnt
	status_is OFF
	left_in BALLOON
	exits 0 balloon check -m mnt
	status_is OFF
	left_in BALLOON
	change_cuts a.img 20 balloon change -s 36m -m mnt
	status_is OFF
	left_in BALLOON
	exits 0 balloon change -s 16m -m mnt
	status_is OFF
	# Without a filesystem that is mounted.
	umount mnt
	left_in BALLOON
	exits 0 balloon clear -d "$DEV"
	left_in BALLOON
	exits 0 umount -d "$DEV"
	mentions "balloon"
	ploop mount -d "$DEV" -m mnt a.img
	status_is OFF
	right
}

@test "status FBLOADED and DISCARD: complete leaves them, everybody else names it" {
	fragmented
	left_in DISCARD
	others_refuse DISCARD complete
	exits 17 discard -m mnt
	mentions "ploop balloon complete"
	exits 17 balloon change -s 10m -m mnt
	exits 0 balloon complete -d "$DEV"
	status_is OFF
	umount mnt
	left_in FBLOADED
	exits 17 balloon clear -d "$DEV"
	mentions "ploop balloon complete"
	others_refuse FBLOADED complete
	exits 0 balloon complete -d "$DEV"
	mentions "TRUNCATED: "
	status_is OFF
	left_in FBLOADED
	exits 0 umount -d "$DEV"
	mentions "ploop balloon repair"
	ploop mount -d "$DEV" a.img
	status_is OFF
}

# What a balloon command says while the driver is busy with something.
has_to_wait()
{
	status_is "$1"
	for word in "change -s 10m" clear check repair; do
		# shellcheck disable=SC2086 # options
		exits 17 balloon $word -m mnt
		mentions "busy with $1: wait"
	done
	exits 0 balloon complete -m mnt
	says_line "Nothing to complete: the state of in-kernel maintenance is $1"
	[[ $(balloon_size) == 0 ]]
}

@test "status MERGE, GROW and SNAPSHOT: a balloon has to wait" {
	local other

	fragmented
	ploop snapshot -d "$DEV" b.img
	fill 21 24
	sync -f mnt
	pause merge
	has_to_wait MERGE
	thaw
	waiter_says OK
	freeze
	issue grow $((512 * 2048))
	wait_for 20 maintains grow
	has_to_wait GROW
	thaw
	waiter_says OK
	# The new file lies elsewhere; the filesystem on the device has something to write before it is frozen.
	other=$(scratch_disk other 64m)
	make_fs ext4 "$other" other
	losetup -d "$other"
	new_image other/c.img "$(device_size)"
	: >mnt/f0
	freeze
	issue snapshot other/c.img cl="$CL" flags=0x10000000
	wait_for 20 maintains snapshot
	has_to_wait SNAPSHOT
	thaw
	waiter_says OK
	status_is OFF
	right
}

# --- SIGKILL at a step

# What change calls, in order; the step before which it is killed is counted among these calls.
CALLS=fallocate,ftruncate,fsync,ioctl

# list_steps: a change to $SIZE that nobody kills, into $T/steps.
list_steps()
{
	strace -qq -e trace=$CALLS -o steps "$PLOOP" balloon change -s "$SIZE" -m mnt >/dev/null 3>&-
	cat steps
}

# Numbers of those that change something; the others need not be tried.
steps_that_count() { grep -nv 'TCGETS\|GETFLAGS' steps | cut -d: -f1; }

# refill FILES: the filesystem as with fragmented.
refill()
{
	rm -f mnt/f[0-9]* mnt/ballast
	fill 1 "$1" 4
	full
	delete_half 1 "$1"
}

# kill_before N: change to $SIZE, killed before the Nth of its calls.
kill_before()
{
	local status=0 call n

	# Of calls of one name.
	call=$(sed -n "$1s/(.*//p" steps)
	n=$(head -n "$1" steps | grep -c "^$call(")
	strace -qq -e trace="$call" -e inject="$call:signal=KILL:when=$n" -o killed "$PLOOP" balloon change -s "$SIZE" \
		-m mnt >"$SAID" 2>&1 3>&- || status=$?
	((status == 137)) || fail "step $1, $call $n: exit status $status: $(<"$SAID")"
}

# Nobody has it locked. flock alone would want to write to the frozen host.
is_free() { flock -n 9 9<"$1"; }

# DONE TOTAL
total_is_known() { (($(cut -d' ' -f2 "$SYS/pstate/progress") > 0)); }

@test "status RELOC: complete waits for it, so does snapshot; reads go on; progress is seen" {
	SIZE=36m
	fragmented
	list_steps
	exits 0 balloon change -s 0 -m mnt
	refill 20
	# Its list is read again before the file is cut.
	kill_before "$(grep -n 'FBGET\|0x12' steps | tail -n 1 | cut -d: -f1)"
	read -r _ HEAD LEVEL < <(ioctl "$DEV" balloon 0 2)
	scan a.img
	freeze
	issue relocblks "$LEVEL" "$HEAD" "$SCANNED" "${TAIL[@]}"
	wait_for 20 maintains relocblks
	wait_for 20 total_is_known
	status_is RELOC
	ploop info "$DEV" | grep -q '^maintenance: *RELOC, .* of .* clusters'
	[[ $(ploop info --json "$DEV" | jq .progress.total) -gt 0 ]]
	kill -KILL "$WAITER"
	wait "$WAITER" || true
	status_is RELOC
	exits 17 balloon clear -d "$DEV"
	mentions "ploop balloon complete"
	exits 17 balloon change -s 10m -m mnt
	mentions "ploop balloon complete"
	# A signal ends the wait. Another command is told that somebody waits.
	"$PLOOP" balloon complete -d "$DEV" >"$BATS_TEST_TMPDIR/answer" 2>&1 3>&- &
	WAITER=$!
	wait_for 10 fails is_free a.img
	exits 17 balloon clear -d "$DEV"
	mentions "another ploop command works on the images of $DEV (state RELOC)"
	kill -TERM $WAITER
	wait $WAITER || [[ $? == 34 ]]
	grep -q 'ploop balloon complete' "$BATS_TEST_TMPDIR/answer"
	status_is RELOC
	dd if="$DEV" of=/dev/null bs=1M count=8 iflag=direct status=none
	thaw
	exits 0 snapshot -d "$DEV" b.img
	status_is OFF
	healthy a.img b.img
}

# As the page says.
recover()
{
	local state

	state=$(balloon status -d "$DEV" | sed 's/.*: //')
	echo "# $1 $(sed -n "$1s/ *=.*//p" steps): $state"
	case $state in
	FBLOADED | RELOC) exits 0 balloon complete -d "$DEV" -m mnt ;;
	BALLOON) exits 0 balloon clear -d "$DEV" -m mnt ;;
	OFF) ;;
	*) fail "state $state" || return 1 ;;
	esac
	exits 0 balloon check -d "$DEV" -m mnt
	if grep -q '^Found' "$SAID"; then
		exits 0 balloon repair -d "$DEV" -m mnt
		mentions TRUNCATED
		exits 0 balloon check -d "$DEV" -m mnt
	fi
	grep -q 'No free blocks\|no free blocks' "$SAID"
	status_is OFF
	immutable
	right
}

# compact FILE: it is not much longer than what is used of it.
compact()
{
	local used

	used=$(($(index_clusters "$1") + $(owners "$1" 0 4294967295 | awk -F: '{ n += $3 } END { print n }')))
	echo "# $1: $used clusters used, $(file_clusters "$1") long"
	(($(file_clusters "$1") <= used + 4))
}

@test "change killed before each of its steps, then status, and complete or check and repair" {
	local step

	SIZE=14m
	new_fs 128m
	refill 8
	list_steps
	for step in $(steps_that_count); do
		exits 0 balloon change -s 0 -m mnt
		refill 8
		kill_before "$step"
		recover "$step"
		# What it was for, at the latest when it is run again.
		exits 0 balloon change -s $SIZE -m mnt
		compact a.img
	done
	healthy
}
