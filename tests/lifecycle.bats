#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Many cycles, many devices, one large image: what it costs, and that nothing stays behind.

load helpers

PLOOP=$TOP/userspace/ploop

setup_file() { host_up 3g; }
teardown_file() { host_down; }
setup() { begin; }
teardown() { finish; }

slabs() { awk '/^ploop/ { print $1 }' /proc/slabinfo; }

# Memory that is not page cache, KiB.
kernel_memory() { awk '/^(Slab|KernelStack|Percpu|VmallocUsed):/ { sum += $2 } END { print sum }' /proc/meminfo; }

@test "100 cycles of mount and umount" {
	local i before after

	new_image "$T/a" 64m
	for i in {1..100}; do
		if ((i == 10)); then
			before=$(kernel_memory)
		fi
		"$PLOOP" mount "$T/a" >"$T/out"
		grep -qx /dev/ploop0 "$T/out"
		if ((i % 25 == 0)); then
			data write /dev/ploop0 0 1m "$i"
		fi
		"$PLOOP" umount "$T/a"
		[[ ! -e /sys/block/ploop0 ]]
	done
	after=$(kernel_memory)
	echo "# kernel memory: $before KiB after 10 cycles, $after KiB after 100" >&3
	((after - before < 8192))
	attach "$T/a"
	data verify "$DEV" 0 1m 100
	detach
	unload
	[[ ! $(slabs) ]]
}

@test "16 devices at once" {
	local i pids=()

	for i in {0..15}; do
		new_image "$T/$i" 64m
		attach "$T/$i"
		[[ $DEV == /dev/ploop$i ]]
	done
	for i in {0..15}; do
		data write "/dev/ploop$i" 0 2m $((i + 1)) 3>&- &
		pids+=($!)
	done
	for i in {0..15}; do
		wait "${pids[i]}"
	done
	for i in {0..15}; do
		data verify "/dev/ploop$i" 0 2m $((i + 1))
		detach "/dev/ploop$i"
	done
	fails compgen -G '/sys/block/ploop*'
	fails compgen -G '/dev/ploop[0-9]*'
	for i in 0 15; do
		fails in_use "$T/$i"
	done
	unload
	[[ ! $(slabs) ]]
}

@test "a 4 TiB image with 1 GiB of data starts within a second, in less than 2 MiB" {
	local start ms best=1000000 pages before

	new_image "$T/a" 4t
	attach "$T/a"
	# 1024 clusters, 4 GiB apart: the worst for the map.
	data write-every "$DEV" 4g 1024 1
	expect OK "$DEV" sync
	detach
	[[ $(stat -c %s "$T/a") == $(((16 + 1 + 1024) * 1048576)) ]]
	new_device
	# The best of three: the machine may share its CPU.
	for _ in 1 2 3; do
		echo 3 >/proc/sys/vm/drop_caches
		before=$(kernel_memory)
		start=${EPOCHREALTIME/./}
		expect OK "$DEV" add "$T/a"
		expect OK "$DEV" start
		ms=$(((${EPOCHREALTIME/./} - start) / 1000))
		((ms >= best)) || best=$ms
		pages=$(state_of map_pages)
		echo "# started in $ms ms; map of $pages pages, kernel memory grew by" \
			"$(($(kernel_memory) - before)) KiB" >&3
		((pages * 4096 < 2 * 1048576))
		stop
		expect OK "$DEV" clear
	done
	# Seconds of a kernel with KASAN and lockdep mean nothing; its data must be right as well.
	[[ -d /sys/kernel/debug/kunit ]] || ((best < 1000))
	expect OK "$DEV" add "$T/a"
	expect OK "$DEV" start
	data verify-every "$DEV" 4g 1024 1
	detach
}
