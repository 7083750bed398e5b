#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# `ploop check --repair` that ends early: killed at any of its writes, or without space. What it leaves is no worse.

load helpers
load stack
load damage

setup_file() { host_up 1g; }
teardown_file() { host_down; }

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
	data poke a "$FLAGS" 32 1
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
	data poke a "$IN_USE" 32 "$DIRTY"
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
