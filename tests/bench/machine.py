"""What the figures were measured on."""
import os
import platform
import statistics
import time
from pathlib import Path


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model", "cpu model")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def filesystem(folder):
    """The type of the file system that holds a folder."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        mount, kind = line.split()[1:3]
        inside = mount == "/" or folder == Path(mount) or Path(mount) in folder.parents
        if inside and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


def fdatasync_us(folder, count=100):
    """The median time of a 4 KiB write at the end of a preallocated file and its fdatasync, microseconds."""
    path = folder / "fdatasync"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, 4096 * count)
        os.fsync(descriptor)
        times = []
        for i in range(count):
            start = time.perf_counter()
            os.pwrite(descriptor, b"x" * 4096, 4096 * i)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return statistics.median(times) * 1e6


def machine(folder):
    return {
        "cores": os.cpu_count(),
        "cpu": cpu_model(),
        "kernel": platform.release(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "filesystem": filesystem(folder.resolve()),
        "fdatasync_us": round(fdatasync_us(folder), 1),
        "load_average": round(os.getloadavg()[0], 2),
    }


def cpu_s(pid):
    """User and system time of a process, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")
