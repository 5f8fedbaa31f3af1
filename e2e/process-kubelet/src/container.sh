# Builds the root of one container and becomes its process. Runs in its namespaces, whose pid 1 it is.
#   ROOT HOSTNAME ro|rw(the root) WORKING_DIR PATH BINARY [ro|rw FROM TO]... -- ARGUMENT...
set -e
root=$1 hostname=$2 mode=$3 dir=$4 path=$5 binary=$6
shift 6
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
chroot=$(command -v chroot)
trap 'echo "the container could not be set up" >&2; exit 128' ERR

# Not through /proc/sys, which an ordinary user's namespace may not write. Where the program is not
# installed there is still the variable HOSTNAME.
hostname "$hostname" || :
mount -t tmpfs -o mode=755 tmpfs "$root"
cd "$root"
mkdir dev etc proc sys run tmp var var/tmp root .host .host/etc .image
chmod 1777 tmp var/tmp
for top in /usr /bin /sbin /lib*; do
  if [[ -L $top ]]; then
    cp -P "$top" ".$top"
  else
    mkdir ".$top"
    mount --rbind "$top" ".$top"
    # Some hosts' mounts carry flags that a user namespace may not change; there it stays as it is.
    mount -o remount,bind,ro ".$top" 2>/dev/null || :
  fi
done
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
# Links into a read-only view: volumes can be mounted beside them without touching the host's folder.
mount --bind /etc .host/etc
mount -o remount,bind,ro .host/etc 2>/dev/null || :
entries=(/etc/*)
ln -s -t etc -- "${entries[@]/#//.host}"
touch .image/run
mount --bind "$binary" .image/run

while [[ $1 != -- ]]; do
  if [[ -d $2 ]]; then
    mkdir -p ".$3"
  else
    mkdir -p "$(dirname ".$3")"
    touch ".$3"
  fi
  mount --bind "$2" ".$3"
  [[ $1 == rw ]] || mount -o remount,bind,ro ".$3"
  shift 3
done
shift
mkdir -p ".$dir"
[[ $mode == rw ]] || mount -o remount,bind,ro "$root"
cd /

export PATH=$path
if [[ $dir == / ]]; then
  exec "$chroot" "$root" /.image/run "$@"
fi
exec "$chroot" "$root" /bin/sh -c 'cd "$0" && exec /.image/run "$@"' "$dir" "$@"
