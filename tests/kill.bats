#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# SIGKILL of the command in the middle of snapshot, merge and grow of a running device, at moments spread over each:
# the device stays attached, the writer beside it sees nothing, all data is right, and the command run again completes.

load helpers
load crash/lib.bash

# Of each operation; a third must not come too late to kill anything. A thorough run: tests/vm/run -k 6.12 -d images=20g
# -t 1500 -- tests/vm/guest-setup env KILL_MOMENTS=10 bats --formatter tap tests/kill.bats
MOMENTS=${KILL_MOMENTS:-3}
LEAST_KILLED=$((MOMENTS / 3))
# What the writer needs, and for the larger one a second cluster of index.
# shellcheck disable=SC2034 # lib.bash uses them
SMALL=64m LARGE=300m

setup_file() { host_up 2g; }
teardown_file() { host_down; }

setup()
{
	begin
	IMG=$T/now
	JOURNAL=$T/journal
	mkdir "$T/old" "$IMG"
}

teardown() { finish; }

# fresh KIND: the images as prepare made them, and the device if the operation needs one.
fresh()
{
	local images

	rm -rf "$IMG"
	cp -r "$T/old" "$IMG"
	cp "$T/old-journal" "$JOURNAL"
	read -ra images <<<"$(before "$1")"
	DEV=$(mount_images "${images[@]}")
	SYS=/sys/block/${DEV#/dev/}
}

levels() { find "$SYS/pdelta" -mindepth 1 -maxdepth 1 | wc -l; }

# Sets LASTED to the milliseconds that the command takes when nobody kills it and nobody writes.
measure()
{
	local start=${EPOCHREALTIME/./}

	operate "$1" "$DEV" "$(levels)"
	LASTED=$(((${EPOCHREALTIME/./} - start) / 1000))
}

# kill_after KIND MILLISECONDS: counts in KILLED.
kill_after()
{
	local pid

	# The command itself is to be killed, not a shell around it.
	# shellcheck disable=SC2317 # operate calls it
	ploop() { exec ploop "$@"; }
	operate "$1" "$DEV" "$(levels)" >"$T/killed" 2>&1 3>&- &
	pid=$!
	unset -f ploop
	sleep "$(($2 / 1000)).$(printf %03d $(($2 % 1000)))"
	kill -KILL $pid 2>/dev/null || true
	wait $pid 2>/dev/null || {
		(($? == 137))
		KILLED=$((KILLED + 1))
		echo "# killed after $2 of $LASTED ms"
	}
}

# A merge that the driver finishes by itself takes its level away under the command that would wait for it.
again()
{
	local levels

	levels=$(levels)
	operate_again "$1" "$DEV" "$levels" || (($(levels) < levels))
}

kill_once()
{
	local kind=$1

	fresh "$kind"
	start_writer ''
	kill_after "$kind" "$2"
	wait_epochs 2
	stop_writer
	is "$SYS/pstate/running" 1
	is "$SYS/pstate/aborted" 0
	verify "$DEV"
	again "$kind"
	verify "$DEV"
	umount_device "$DEV"
	verify_result "$kind"
}

kill_often()
{
	local kind=$1 i

	IMG=$T/old prepare "$kind"
	cp "$JOURNAL" "$T/old-journal"
	fresh "$kind"
	measure "$kind"
	umount_device "$DEV"
	verify_result "$kind"
	KILLED=0
	for ((i = 0; i < MOMENTS; i++)); do
		kill_once "$kind" $((LASTED * i / MOMENTS + RANDOM % (LASTED / MOMENTS + 1)))
	done
	((KILLED >= LEAST_KILLED))
}

@test "snapshot killed" { kill_often snapshot; }

@test "merge of the top killed" { kill_often merge-top; }

@test "merge of a range killed" { kill_often merge-range; }

@test "merge into a raw base killed" { kill_often merge-raw; }

@test "grow killed" { kill_often grow; }
