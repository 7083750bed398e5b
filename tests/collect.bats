#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Collected discards: DISCARD_INIT, a discard that waits until a client has dealt with it, DISCARD_WAIT, FBFILTER, BALLOON,
# RELOCBLKS or FBDROP, DISCARD_FINI.
# shellcheck disable=SC2034 # balloon.bash uses LEVEL and HEAD

load helpers
load stack
load balloon

SNAPSHOT=0x40185004

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

# 32 MiB, of which 16 are written, discards are collected.
a_collector()
{
	new_image "$T/a" 32m
	attach "$T/a"
	data write "$DEV" 0 16m 1
	expect OK "$DEV" discard-init
	balloon_is DISCARD
}

# A discard keeps others away from its block device until it ends, before the driver sees them. So there is a second block
# device, with the same sectors: a partition.
second_node()
{
	addpart "$DEV" 1 0 "$(<"$SYS/size")"
	udevadm settle
	SECOND=${DEV}p1
	wait_for 10 test -b "$SECOND"
}

# aside NAME COMMAND...: in the background, ended by finish; its output is in $T/NAME, its number in ASIDE.
aside()
{
	"${@:2}" >"$T/$1" 2>&1 3>&- &
	ASIDE=$!
	HELPERS+=("$ASIDE")
}

# send OFFSET LENGTH: a discard in the background.
send()
{
	aside offer blkdiscard -f -o "$1" -l "$2" "$DEV"
	OFFER=$ASIDE
}

# offer OFFSET LENGTH: the same; comes back when it is kept.
offer()
{
	send "$@"
	[[ $(timeout 60 "$IOCTL" "$DEV" discard-wait) == 1 ]] || fail "the discard is not collected" || return 1
	kept
}

ended() { ! kill -0 "$1" 2>/dev/null; }
kept() { kill -0 "$OFFER" || fail "the discard has ended: $(<"$T/offer")"; }

# The discard of offer was carried out, as far as its sender knows.
offer_over()
{
	wait_for 20 ended "$OFFER" || return 1
	wait "$OFFER" || fail "$(<"$T/offer")"
}

# What of these clusters of the disk lies in extents of N or more.
in_extents_of() { owned "$T/a" "$2" "$3" | awk -F: -v min="$1" '$3 >= min { n += $3 } END { print n + 0 }'; }

# refused_discard OFFSET LENGTH
refused_discard()
{
	local says

	# Not for lack of an exclusive open.
	says=$(blkdiscard -f -o "$1" -l "$2" "$SECOND" 2>&1) && fail "a second discard was not refused" && return 1
	[[ $says == *"ioctl failed: Device or resource busy"* ]] || fail "$says"
}

# waits_in_ioctl PID
waits_in_ioctl() { grep -q '^16 ' "/proc/$1/syscall" && grep -q '^State:.S' "/proc/$1/status"; }

# given_up EXTENT...: there is nothing in these clusters.
given_up()
{
	local extent clu len

	for extent; do
		IFS=: read -r clu _ len <<<"$extent"
		data verify "$DEV" $((clu << (CL + 9))) $((len << (CL + 9))) 0 || return 1
	done
}

@test "DISCARD: what each command answers, what is refused" {
	local args

	a_collector
	for args in "0 0" "0 1" "0 2" "1 0"; do
		# shellcheck disable=SC2086
		expect "DISCARD 0 0" "$DEV" balloon $args
	done
	expect EBUSY "$DEV" discard-init
	expect EBUSY "$DEV" freeblks 0
	expect EINVAL "$DEV" fbget
	expect EINVAL "$DEV" fbfilter 0
	expect EINVAL "$DEV" fbdrop
	expect EINVAL "$DEV" relocblks 0 513 0
	expect EBUSY "$DEV" raw $SNAPSHOT 0
	expect EBUSY "$DEV" merge
	expect EBUSY "$DEV" grow 131072 cl=6
	expect EBUSY "$DEV" del 0
	expect EBUSY "$DEV" clear
	expect OK "$DEV" sync
	# Discards in which there is nothing to collect.
	timeout 60 blkdiscard -f -o 1m -l 4k "$DEV"
	timeout 60 blkdiscard -f -o $((65536 - 4096)) -l 32k "$DEV"
	timeout 60 blkdiscard -f -o 20m -l 4m "$DEV"
	# Zeroing is not a discard.
	timeout 60 blkdiscard -f -z -o 2m -l 1m "$DEV"
	data verify "$DEV" 2m 1m 0
	balloon_is DISCARD
	expect OK "$DEV" discard-fini
	balloon_is OFF
	expect OK "$DEV" discard-fini
	expect 0 "$DEV" discard-wait
	data verify "$DEV" 3m 13m 1
	# Native discard is back.
	blkdiscard -f -o 3m -l 1m "$DEV"
	data verify "$DEV" 3m 1m 0
	expect OK "$DEV" sync
	[[ $(owned "$T/a" 96 128) == "" ]]
}

@test "STOP ends DISCARD" {
	a_collector
	stop
	balloon_is OFF
	expect OK "$DEV" start
	expect 0 "$DEV" discard-wait
	blkdiscard -f -o 0 -l 1m "$DEV"
	data verify "$DEV" 0 1m 0
	data verify "$DEV" 1m 15m 1
}

@test "a discard is kept, filtered, loaded, its clusters relocated; then the next" {
	local n listed

	new_image "$T/a" 32m
	attach "$T/a"
	# Two clusters, a gap, and the rest of 4 MiB.
	data write "$DEV" 0 64k 1
	data write "$DEV" 1m 15m 1
	second_node
	expect OK "$DEV" discard-init
	issue discard-wait
	wait_for 10 waits_in_ioctl "$WAITER"
	kill -USR1 "$WAITER"
	waiter_says EINTR
	issue discard-wait
	wait_for 10 waits_in_ioctl "$WAITER"
	send 0 4m
	waiter_says 1
	expect 1 "$DEV" discard-wait
	balloon_is DISCARD
	refused_discard 8m 1m
	data verify "$DEV" 8m 1m 1
	expect EBUSY "$DEV" freeblks 0
	expect EINVAL "$DEV" relocblks 0 482 0
	expect OK "$DEV" sync
	n=$(in_extents_of 1 0 128)
	((n == 98))
	expect 98 "$DEV" fbfilter 0
	expect 98 "$DEV" fbfilter 1
	n=$(in_extents_of 3 0 128)
	((n > 0 && n < 98))
	expect "$n" "$DEV" fbfilter 3
	expect "$n" "$DEV" fbfilter 1
	balloon_is DISCARD
	HEAD=$(ioctl "$DEV" balloon 0 0 | cut -d' ' -f2)
	LEVEL=0
	((HEAD == 483))
	balloon_is FBLOADED 483 0
	expect 1 "$DEV" discard-wait
	mapfile -t listed < <(loaded_list)
	[[ $(printf '%s\n' "${listed[@]}" | awk -F: '{ n += $3 } END { print n }') == "$n" ]]
	given_up "${listed[@]}"
	kept
	refused_discard 8m 1m
	expect EINVAL "$DEV" fbfilter 0
	[[ $(relocate "$T/a") == "$n" ]]
	offer_over
	balloon_is DISCARD
	[[ $(file_clusters "$T/a") == $((483 - n)) ]]
	given_up "${listed[@]}"
	data verify "$DEV" 4m 12m 1
	# The next one is dropped: nothing has happened to its clusters, or they are zeros.
	offer 8m 1m
	expect OK "$DEV" fbdrop
	offer_over
	balloon_is DISCARD
	expect EINVAL "$DEV" fbdrop
	# And one that is dropped when it was loaded.
	offer 9m 1m
	ioctl "$DEV" balloon 0 1
	maintains fbloaded
	expect OK "$DEV" fbdrop
	offer_over
	data verify "$DEV" 9m 1m 0
	balloon_is DISCARD
	expect OK "$DEV" discard-fini
	balloon_is OFF
	data verify "$DEV" 4m 4m 1
	data verify "$DEV" 10m 6m 1
	detach
	check_image "$T/a"
	attach "$T/a"
	given_up "${listed[@]}"
	data verify "$DEV" 4m 4m 1
	data verify "$DEV" 9m 1m 0
	data verify "$DEV" 10m 6m 1
}

@test "DISCARD_FINI: who waits gets 0, a discard that is kept ends" {
	a_collector
	issue discard-wait
	wait_for 10 waits_in_ioctl "$WAITER"
	expect OK "$DEV" discard-fini
	waiter_says 0
	balloon_is OFF
	expect OK "$DEV" discard-init
	offer 0 1m
	expect OK "$DEV" discard-fini
	offer_over
	balloon_is OFF
	data verify "$DEV" 1m 15m 1
}

@test "DISCARD_FINI while a list is loaded is EBUSY; the list's end is then OFF" {
	a_collector
	offer 0 1m
	HEAD=$(ioctl "$DEV" balloon 0 0 | cut -d' ' -f2)
	LEVEL=0
	expect EBUSY "$DEV" discard-fini
	balloon_is FBLOADED "$HEAD" 0
	kept
	expect OK "$DEV" discard-fini
	expect 0 "$DEV" discard-wait
	expect OK "$DEV" fbdrop
	offer_over
	balloon_is OFF
	data verify "$DEV" 0 1m 0
	expect OK "$DEV" discard-init
	offer 2m 1m
	HEAD=$(ioctl "$DEV" balloon 0 0 | cut -d' ' -f2)
	expect EBUSY "$DEV" discard-fini
	# The hole of the first is filled, too.
	[[ $(relocate "$T/a") == 64 ]]
	offer_over
	balloon_is OFF
	data verify "$DEV" 0 1m 0
	data verify "$DEV" 1m 1m 1
	data verify "$DEV" 2m 1m 0
	data verify "$DEV" 3m 13m 1
	detach
	check_image "$T/a"
}

# serve_discards: a client; ends with DISCARD. Prints the clusters cut.
serve_discards()
{
	local answer

	while answer=$(ioctl "$DEV" discard-wait) && ((answer)); do
		read -r _ HEAD LEVEL < <(ioctl "$DEV" balloon 0 0)
		relocate "$T/a" || return
	done
	((answer == 0))
}

@test "fstrim of a filesystem, served by a client" {
	local server cut

	new_image "$T/a" 32m
	attach "$T/a"
	mkfs.ext4 -q -b 4096 -E nodiscard "$DEV"
	mkdir "$T/mnt"
	mount "$DEV" "$T/mnt"
	data files "$T/mnt" 1 80
	sync -f "$T/mnt"
	rm -r "$T/mnt"/d[01]
	sync -f "$T/mnt"
	expect OK "$DEV" discard-init
	aside cuts serve_discards
	server=$ASIDE
	# It cannot be killed while a discard is kept.
	aside trim fstrim "$T/mnt"
	wait_for 120 ended "$ASIDE"
	wait "$ASIDE" || fail "$(<"$T/trim")"
	[[ $(data check-files "$T/mnt" 1 80) == 40 ]]
	expect OK "$DEV" discard-fini
	wait_for 20 ended "$server"
	wait "$server" || fail "$(<"$T/cuts")"
	cut=$(awk '{ n += $1 } END { print n }' "$T/cuts")
	echo "# $(wc -l <"$T/cuts") discards, $cut clusters cut"
	((cut > 60))
	balloon_is OFF
	umount "$T/mnt"
	e2fsck -fn "$DEV"
	detach
	check_image "$T/a"
	attach "$T/a"
	e2fsck -fn "$DEV"
	mount "$DEV" "$T/mnt"
	[[ $(data check-files "$T/mnt" 1 80) == 40 ]]
}
