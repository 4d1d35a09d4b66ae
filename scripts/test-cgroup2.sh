#!/usr/bin/env bash
# The tests of control groups with version 2, whatever this machine has: they run in a Linux of Debian's in an emulator, on a disk
# in memory that has nothing but them. Half a minute. Needs the packages qemu-system-x86, busybox-static and cpio.
set -euo pipefail

kernel=linux-image-cloud-amd64
# Most seconds until the machine has ended.
limit=300
# Tests by words of their names.
words=(cgroup control_group)

work=$(mktemp -d)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{disk/bin,disk/proc,disk/sys,disk/dev,disk/tmp,kernel}

echo "== the kernel"
package=$(apt-cache depends "$kernel" | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
(cd "$work" && apt-get download --quiet "$package" && dpkg -x "$package"_*.deb kernel)

echo "== the tests"
program=$(cargo test --locked --workspace --all-features --lib --no-run --message-format=json |
  grep -o '"executable":"[^"]*/browserfleet_pool_daemon-[^"]*"' | cut -d'"' -f4)
strip -o "$work/disk/test" "$program"
# Busybox has no install, with which the tests write programs.
cp "$(command -v install)" "$work/disk/bin/install"
ldd "$program" "$work/disk/bin/install" | sed -n 's/.*[\t ]\(\/[^ ]*\) (.*/\1/p' | sort -u | while read -r library; do
  install -D "$(realpath "$library")" "$work/disk$library"
done
install "$(command -v busybox)" "$work/disk/bin/busybox"
cat >"$work/disk/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev
ln -s /proc/self/fd/0 /dev/stdin
mount -t tmpfs tmp /tmp && mount -t cgroup2 none /sys/fs/cgroup
# As systemd does it for a service with Delegate=yes.
echo "+memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/service
sh -c 'echo \$\$ >/sys/fs/cgroup/service/cgroup.procs; exec /test ${words[*]} --test-threads 1 --nocapture' && echo "all is well"
poweroff -f
INIT
chmod +x "$work/disk/init"
(cd "$work/disk" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/disk.gz"

echo "== the machine"
timeout "$limit" qemu-system-x86_64 -accel tcg -cpu max -m 2048 -display none -serial stdio -monitor none -no-reboot \
  -kernel "$work"/kernel/boot/vmlinuz-* -initrd "$work/disk.gz" -append "console=ttyS0 panic=-1 quiet" | tee "$work/said"
# Where groups cannot be had the tests show nothing.
grep -q "all is well" "$work/said" && ! grep -q "nothing is shown" "$work/said"
