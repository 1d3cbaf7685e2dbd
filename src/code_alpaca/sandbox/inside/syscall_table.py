"""System calls that the seccomp filter treats specially, grouped by what it does with them.

Each entry is the name of a call with its x86_64 and aarch64 numbers; None means that the
architecture has no such call. Sources: arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h of Linux 6.1. A test compares every number with the kernel
headers installed on the machine.

A call that is not listed here is allowed, unless its number is above `LAST_REVIEWED`.
"""

from __future__ import annotations

import errno
import platform

Calls = dict[str, tuple[int, int | None]]

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # name: its AUDIT_ARCH number
LAST_REVIEWED = 450  # set_mempolicy_home_node; later calls fail with ENOSYS until reviewed

# Fail with EPERM.
DENIED: Calls = {
    # Signals to other processes.
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438),
    # Access to other processes.
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
    # Sockets.
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
    # Asynchronous I/O, which seccomp cannot count.
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "io_setup": (206, 0), "io_submit": (209, 2),
    # Timers, file watching, further seccomp filters.
    "timer_create": (222, 107), "inotify_add_watch": (254, 27), "seccomp": (317, 277),
    # System V and POSIX IPC.
    "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "msgsnd": (69, 189),
    "semget": (64, 190), "mq_open": (240, 180),
    # Keyring.
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    # Kernel.
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "syslog": (103, 116),
    "vhangup": (153, 58), "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None),
    "memfd_secret": (447, 447),
    # Mounts and namespaces.
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "setns": (308, 268), "unshare": (272, 97), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    # Clock, host name and execution domain.
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162),
    "personality": (135, 92),
    # File ownership.
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
    # Truncation by path, and extended attributes.
    "truncate": (76, 45), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    # Scheduling and memory placement.
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "migrate_pages": (256, 238),
    "move_pages": (279, 239),
}  # fmt: skip

# Do nothing and report success. Landlock does not restrict changes of mode and times, which
# shutil.copy needs; syncs would keep the disk busy with files that are deleted a moment later.
IGNORED: Calls = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "utime": (132, None), "utimes": (235, None), "utimensat": (280, 88), "futimesat": (261, None),
    "sync": (162, 81), "syncfs": (306, 267), "fsync": (74, 82), "fdatasync": (75, 83),
    "sync_file_range": (277, 84),
}  # fmt: skip

# Denied unless the program may become another program or start processes.
EXEC: Calls = {"execve": (59, 221), "execveat": (322, 281)}
FORK: Calls = {"fork": (57, None), "vfork": (58, None)}

# Allowed, denied or suspended depending on their arguments (see `seccomp_filter`).
ARGUMENT_CHECKED: Calls = {
    "clone": (56, 220), "clone3": (435, 435), "kill": (62, 129), "tgkill": (234, 131),
    "prlimit64": (302, 261), "sched_setaffinity": (203, 122), "prctl": (157, 167),
    "fcntl": (72, 25), "ioctl": (16, 29), "write": (1, 64), "pwrite64": (18, 68),
    "mmap": (9, 222), "open": (2, None), "openat": (257, 56), "close": (3, 57),
    "dup2": (33, None), "dup3": (292, 24),
}  # fmt: skip

# Always suspended until the fork server has counted them (see `syscall_accounting`).
EXIT: Calls = {"exit": (60, 93)}
VECTOR_WRITE: Calls = {"writev": (20, 66), "pwritev": (296, 70), "pwritev2": (328, 287)}
CREATE_ENTRY: Calls = {
    "creat": (85, None), "mkdir": (83, None), "mkdirat": (258, 34), "mknod": (133, None),
    "mknodat": (259, 33), "link": (86, None), "linkat": (265, 37), "symlink": (88, None),
    "symlinkat": (266, 36), "renameat2": (316, 276), "memfd_create": (319, 279),
}  # fmt: skip

# Ways to write whose size is not in a register, and ways to hide a descriptor: fail with the
# error after which callers fall back to plain `write`, `openat` and `close`.
UNCOUNTABLE: dict[int, Calls] = {
    errno.EINVAL: {"sendfile": (40, 71), "copy_file_range": (326, 285), "splice": (275, 76)},
    errno.EOPNOTSUPP: {"fallocate": (285, 47)},
    errno.ENOSYS: {"openat2": (437, 437), "close_range": (436, 436)},
}

# Made by the sandbox itself, besides `seccomp`, while it confines a process.
CAPABILITIES: Calls = {"capset": (126, 91)}
LANDLOCK: Calls = {  # the same on every architecture
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}

GROUPS = (DENIED, IGNORED, EXEC, FORK, ARGUMENT_CHECKED, EXIT, VECTOR_WRITE, CREATE_ENTRY,
          *UNCOUNTABLE.values(), CAPABILITIES, LANDLOCK)  # fmt: skip


def load_numbers() -> dict[str, int]:
    """Return the number of each system call that this machine's architecture has, by name."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no seccomp filter for {machine}")
    column = list(ARCHITECTURES).index(machine)
    calls = [call for group in GROUPS for call in group.items()]
    return {name: row[column] for name, row in calls if row[column] is not None}
