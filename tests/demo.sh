#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# The main job on a stock Debian kernel, every step shown: dkms install, modprobe, init, mount, files, umount, mount
# again, same files, clean file system, everything removed. Without arguments it boots the machine to do that in.

. "$(dirname "$0")/vm/lib.bash"

IMAGE=/img/demo.img
MNT=/mnt/demo

step() { printf '\n--- %s\n' "$*"; }

# Shows a command and runs it.
show()
{
	printf '# %s\n' "$*"
	"$@"
}

fail()
{
	printf 'demo: FAILED: %s\n' "$*"
	exit 1
}

# Compiling on an emulated CPU takes minutes: a sign of life every half minute.
show_slow()
{
	local clock status=0

	printf '# %s\n' "$*"
	while sleep 30; do
		printf ' (%s s)\n' "$SECONDS"
	done &
	clock=$!
	"$@" || status=$?
	kill "$clock"
	return "$status"
}

install_modules()
{
	step "install: sources to dkms, which builds and installs them for $(uname -r)"
	show_slow make -s -C "$TOP" dkms-install
	show dkms status ploop
	ln -sf "$TOP/userspace/ploop" /usr/local/sbin/ploop
	show modprobe -a ploop pfmt_ploop1 pfmt_raw pio_direct
	lsmod | grep -E '^(ploop|pfmt|pio)'
}

make_image()
{
	step "an image on ext4"
	show mkfs.ext4 -q /dev/disk/by-id/virtio-images
	mkdir -p /img "$MNT"
	show mount /dev/disk/by-id/virtio-images /img
	show ploop init -s 1g -t ext4 "$IMAGE"
	show ls -lsh "$IMAGE"
}

write_files()
{
	step "mount it and write files"
	show ploop mount -m "$MNT" "$IMAGE"
	show df -h "$MNT"
	show cp -r "$TOP/kernel" "$TOP/userspace" "$MNT/"
	show dd if=/dev/urandom of="$MNT/random" bs=1M count=64 status=none
	(cd "$MNT" && find . -type f -print0 | xargs -0 sha256sum) >/tmp/sums
	printf '%s files written\n' "$(wc -l </tmp/sums)"
	show ploop umount -m "$MNT"
	show ls -lsh "$IMAGE"
}

compare_files()
{
	step "mount it again: the same files?"
	show ploop mount -m "$MNT" "$IMAGE"
	(cd "$MNT" && sha256sum --quiet -c /tmp/sums) || fail "files differ"
	printf 'all %s files are identical\n' "$(wc -l </tmp/sums)"
	show ploop umount -m "$MNT"
}

check_filesystem()
{
	local device

	step "is the file system clean?"
	printf '# ploop mount %s\n' "$IMAGE"
	device=$(ploop mount "$IMAGE" | grep -o '/dev/ploop[0-9]*' | tail -n 1)
	udevadm settle
	show lsblk "$device"
	show e2fsck -fn "${device}p1"
	show ploop umount -d "$device"
}

remove_all()
{
	step "remove everything"
	umount /img
	show rmmod pfmt_ploop1 pfmt_raw pio_direct ploop
	show make -s -C "$TOP" uninstall
	[[ -z $(dkms status ploop) ]] || fail "dkms still knows ploop"
	nothing_left
	printf 'nothing is left\n'
}

nothing_left()
{
	local left

	left=$(
		find "/lib/modules/$(uname -r)" /usr/src /var/lib/dkms /dev /usr/local /sys/module -maxdepth 6 \
			\( -name '*ploop*' -o -name 'pfmt_*' -o -name 'pio_direct*' \) 2>/dev/null
		grep -E '^(ploop|pfmt|pio)' /proc/modules || true
	)
	[[ -z $left ]] || fail "still there: $left"
}

in_machine()
{
	printf 'This is %s\n' "$(uname -srv)"
	# The root is the host's: whoever has ploop there starts from nothing all the same.
	rm -rf /var/lib/dkms/ploop /usr/src/ploop-*
	install_modules
	make_image
	write_files
	compare_files
	check_filesystem
	remove_all
	printf '\ndemo: PASSED\n'
}

if [[ ${PLOOP_VM:-} ]]; then
	in_machine
else
	"$TOP/tests/deps" demo
	make -s -C "$TOP" tools
	"$VM/run" -k 6.1 -t 3600 -d images=4g -- "$TOP/tests/demo.sh"
fi
