// tob_shim stands between a program and the system calls that change files below one directory: it counts them, and makes
// one of them fail, be short, or be the last thing that the process does.
//
// It is a library to preload (LD_PRELOAD=libtob_shim.so), told by the environment, or linked into a test:
//   TOB_SHIM_DIR         absolute path; calls on files below it count, others never. Unset: nothing does.
//   TOB_SHIM_MATCH       only files whose path has this text in it
//   TOB_SHIM_CALL        only calls whose name has this text in it
//   TOB_SHIM_AT          the number of the call, from 1, at which TOB_SHIM_DO happens
//   TOB_SHIM_DO          enospc | eio | short | torn | kill | kill-after | kill-within
//   TOB_SHIM_STICKY=1    from that call on, not only then
//   TOB_SHIM_THEN_KILL   the process is killed before the call that comes so many after that one
//   TOB_SHIM_DELAY_MS    fsync and fdatasync take this much longer
//   TOB_SHIM_CONTROL     a file with lines KEY=VALUE, read again at each call: at, do, sticky, then_kill, delay_ms, match and
//                        call replace what the environment says as long as the file is there; at and sticky default to 1
//   TOB_SHIM_COUNT_FILE  has the number of calls so far, in decimal
//   TOB_SHIM_TRACE       one line for each call: number, name, path, bytes
//   TOB_SHIM_SHADOW      a directory that gets what would be left if the power failed (see below)
//
// The calls: open and openat with O_CREAT, write, writev, pwrite, pwritev, fsync, fdatasync, rename, renameat, renameat2,
// fallocate, posix_fallocate, truncate, ftruncate, unlink, unlinkat, mkdir, mkdirat, sync_file_range.
//
// enospc, sticky, only concerns calls that need room, as a full disk does; eio concerns all. short writes half of what it
// is given, torn does that and lets the next write fail with ENOSPC; both let other calls pass. kill is SIGKILL before the
// call, kill-after after it, kill-within in the middle of a write, at a sector's end: the kernel copies pages, and looks for
// a kill in between only.
//
// The shadow is what a disk must have kept: SHADOW/INODE.data is a file as it was when it was last synced, SHADOW/entries
// has lines "INODE NAME" of the directory as it was when it was last synced. tests put both together again.
#ifndef TOB_TESTS_TORTURE_SHIM_H
#define TOB_TESTS_TORTURE_SHIM_H

// tob_shim_load reads the environment again and counts from 0: for tests that link the shim, after a fork.
void tob_shim_load(void);

#endif
