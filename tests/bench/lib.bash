# SPDX-License-Identifier: GPL-2.0-only
# What the benchmarks share. Each is started here, runs itself in a machine, and prints a table and a line PASS or FAIL.
# shellcheck shell=bash

IMG=/img
# shellcheck disable=SC2034 # for those who include this
DATA=$TOP/build/tests/data

# in_machine KERNEL OPTION... -- ARG...: this benchmark, in a machine.
in_machine()
{
	local kernel=$1 options=()

	shift
	while [[ $1 != -- ]]; do
		options+=("$1")
		shift
	done
	exec "$TOP/tests/vm/run" -k "$kernel" -o "$TOP/build/bench/${0##*/}-$kernel" "${options[@]}" -- \
		tests/vm/guest-setup "tests/bench/${0##*/}" "${@:2}"
}

# usage_if_asked ARG...: the comment at the top of the benchmark is its usage.
usage_if_asked()
{
	[[ ${1:-} == -h || ${1:-} == --help ]] || return 0
	sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
	exit 0
}

# host_fs TYPE DEVICE: an empty file system for the images on $IMG.
host_fs()
{
	mkdir -p "$IMG"
	case $1 in
	ext4) mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1,nodiscard "$2" ;;
	xfs) mkfs.xfs -q -f -K "$2" ;;
	btrfs) mkfs.btrfs -q -f -K "$2" >/dev/null 2>&1 ;;
	esac
	# Or a thread initializes inode tables beside what is measured.
	mount -t "$1" -o "$([[ $1 == ext4 ]] && echo noinit_itable || echo rw)" "$2" "$IMG"
}

# A disk from memory: nothing but instructions counts.
memory_disk()
{
	modprobe brd rd_nr=1 rd_size=$((2 << 20))
	echo /dev/ram0
}

mount_images() { ploop mount "$@" | tail -n 1; }

# row CELL...: the first is wide.
row()
{
	printf '%-42s' "$1"
	printf ' %14s' "${@:2}"
	printf '\n'
}

# divide A B [DIGITS]
divide() { awk -v a="$1" -v b="$2" -v d="${3:-2}" 'BEGIN { printf "%.*f", d, b ? a / b : 0 }'; }

# holds EXPRESSION: of numbers with fractions.
holds() { awk "BEGIN { exit !($1) }"; }

# verdict FAILED TEXT
verdict()
{
	if (($1)); then
		printf 'FAIL: %s\n' "$2"
		exit 1
	fi
	printf 'PASS: %s\n' "$2"
}
