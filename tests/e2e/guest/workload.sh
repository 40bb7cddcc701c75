#!/bin/busybox sh
# What people do in directories: unpacks a source tree, builds in it, keeps it under version control, and cleans up.
#
#	workload.sh ARCHIVE DIRECTORY
#
# Runs in a guest over a shared directory, and on the host over a directory of its own: the two must then be the same.
# Every file's time is set in the end, or comes from the archive.
set -e
archive=$1
dir=$2
export PATH=/bin:/usr/bin:/sbin:/usr/sbin
umask 022
mkdir "$dir"
cd "$dir"

# unpack: a kernel-tree-like archive with owners, modes, times, links of both kinds, a pipe
mkdir src
tar -xf "$archive" -C src

# build: each source makes an object by way of a temporary file, the lot a library and a program; twice, the second time
# only what is newer
build() {
	mkdir -p obj
	find src -name '*.c' -type f | sort | while read -r c; do
		o=obj/$(echo "$c" | tr / _).o
		[ "$o" -nt "$c" ] && continue
		tr a-z n-za-m <"$c" >"$o.tmp"
		mv "$o.tmp" "$o"
	done
	rm -f lib.a
	find obj -name '*.o' | sort | while read -r o; do
		cat "$o" >>lib.a
	done
	cp lib.a program
	chmod 755 program
	ln -sf program run
}
build
find src -name '*1.c' -type f | sort | while read -r c; do
	echo "/* changed */" >>"$c"
done
build

# version control: objects by their hashes, made exclusively and renamed into place, a lock file around the index, then packed
mkdir -p repo/objects repo/refs
find src -type f | sort | while read -r f; do
	h=$(sha1sum <"$f" | cut -c1-40)
	d=repo/objects/$(echo "$h" | cut -c1-2)
	[ -d "$d" ] || mkdir "$d"
	[ -e "$d/$h" ] && continue
	(set -C; cat "$f" >"$d/tmp")
	chmod 444 "$d/tmp"
	mv "$d/tmp" "$d/$h"
	(set -C; echo "$h $f" >repo/index.lock)
	cat repo/index.lock >>repo/index.all
	mv repo/index.lock repo/index
done
cat repo/objects/*/* >repo/pack
find repo/objects -type f | sort | head -n 200 | xargs rm -f
find repo/objects -type d -empty -delete 2>/dev/null || find repo/objects -depth -type d -exec rmdir {} \; 2>/dev/null || true

# a big file in pieces, cut, with a hole
dd if=lib.a of=sparse bs=4096 seek=1000 conv=notrunc 2>/dev/null
dd if=lib.a of=sparse bs=512 count=3 seek=7 conv=notrunc 2>/dev/null
truncate -s 3000000 sparse
cp -a src copy
mv copy/fs moved
rm -rf copy

# what was made here gets a time that can be compared
find . -newer "$archive" | sort -r | while read -r f; do
	touch -h -d @1234567890 "$f"
done
sync
