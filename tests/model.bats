#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Random writes, zeroings, discards and flushes of several threads, against a model of what the disk must hold; and the
# same while the host's file system is frozen, and on a device that lies on another one.

load helpers

MODEL=$TOP/build/tests/model
SIZE=32M

setup_file() { host_up 3g; }
teardown_file() { host_down; }
setup() { begin; }
teardown() { finish; }

# model SEED OPERATIONS STRIPE_KIB: four threads on $DEV; the reference is kept between the calls.
model()
{
	"$MODEL" "$DEV" "$1" "$2" 4 "$3" "$T/reference"
}

# levels STRIPE_KIB VERSION: a stack that grows to three deltas, each attached twice, exercised at each step.
levels()
{
	local level round images=()

	for level in 0 1 2; do
		new_image "$T/$level" "$SIZE" "$2"
		images+=("$T/$level")
		for round in 1 2; do
			stack "${images[@]}"
			echo "${DENSE:-0}" >"$SYS/ptune/dense"
			expect OK "$DEV" start
			[[ ! -e $T/reference ]] || cmp "$DEV" "$T/reference"
			model "$level$round" 40 "$1"
			detach
		done
		qemu-img check -q -f parallels "$T/$level"
	done
}

@test "stacks equal the model: clusters of 32 KiB, version 2" {
	clusters 6
	levels 192 2
}

@test "stacks equal the model: clusters of 1 MiB shared by all threads, version 1" {
	levels 192 1
}

@test "stacks equal the model: clusters of 1 MiB, discarded whole" {
	levels 3072 2
}

@test "stacks equal the model: dense, clusters of 32 KiB" {
	clusters 6
	DENSE=1 levels 96 2
}

@test "a raw base equals the model, alone and below a delta" {
	truncate -s "$SIZE" "$T/base.raw"
	attach "$T/base.raw"
	model 1 60 192
	detach
	cmp "$T/base.raw" "$T/reference"
	new_image "$T/top" "$SIZE"
	attach "$T/base.raw" "$T/top"
	model 2 60 192
	cmp "$DEV" "$T/reference"
	detach
}

@test "a frozen host: writers wait, reads go on, nothing is lost" {
	local pid

	new_image "$T/a" "$SIZE"
	attach "$T/a"
	data write "$DEV" 0 4m 1
	fsfreeze -f "$HOST"
	# In place, and in new clusters.
	data write "$DEV" 2m 8m 2 3>&- &
	pid=$!
	wait_for 20 parked || { fsfreeze -u "$HOST"; fail "nobody waits"; }
	timeout 20 dd if="$DEV" of=/dev/null bs=64k count=16 iflag=direct status=none ||
		{ fsfreeze -u "$HOST"; fail "reads hang"; }
	kill -0 "$pid"
	fsfreeze -u "$HOST"
	wait "$pid"
	data verify "$DEV" 0 2m 1
	data verify "$DEV" 2m 8m 2
	detach
}

parked() { (($(stat_of bio_parked) > 0)); }

@test "a device on a file system on another device" {
	local outer

	new_image "$T/outer" 256M
	attach "$T/outer"
	outer=$DEV
	make_fs ext4 "$outer" "$T/mnt"
	new_image "$T/mnt/inner" "$SIZE"
	attach "$T/mnt/inner"
	model 1 60 192
	cmp "$DEV" "$T/reference"
	detach
	umount "$T/mnt"
	e2fsck -fn "$outer"
	detach "$outer"
}
