"""Runs one program against its tests inside limits that this process puts on itself first.

Started by the sandbox as `python3 -s -S -B -c SOURCE` with the job as JSON on standard input, in an empty temporary
folder with a cleared environment. Answers with one JSON line on standard output: what protection is active, and how
the program did. Everything above `run` happens before the first byte of the program is compiled.
"""

import json
import os
import sys

sys.path = [entry for entry in sys.path if entry]


def limit_resources(limits):
    """Hard limits on processor time, address space, file size, open files and processes."""
    import resource
    import signal

    def out_of_time(*_):
        raise TimeoutError(f"used up {limits['cpu_seconds']} s of processor time")

    signal.signal(signal.SIGXCPU, out_of_time)
    active = []
    for name, value, words in [
        ("RLIMIT_CPU", limits["cpu_seconds"], "processor time"),
        ("RLIMIT_AS", limits["memory_bytes"], "memory"),
        ("RLIMIT_FSIZE", limits["file_bytes"], "file size"),
        ("RLIMIT_NOFILE", 32, None),
        ("RLIMIT_NPROC", 0, "processes"),
        ("RLIMIT_CORE", 0, None),
    ]:
        try:
            # A second more before the kernel kills a program that swallowed the exception.
            hard = value + 1 if name == "RLIMIT_CPU" else value
            resource.setrlimit(getattr(resource, name), (value, hard))
            if words:
                active.append(words)
        except (AttributeError, ValueError, OSError):
            pass
    return ["limits on " + ", ".join(active)] if active else []


def readable_folders():
    """Where the interpreter finds its modules and their shared libraries."""
    folders = {os.path.dirname(os.__file__), "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo"}
    folders.update(os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix, sys.base_exec_prefix))
    return sorted(os.path.realpath(folder) for folder in folders if os.path.isdir(folder))


def restrict_files(libc, writable):
    """Landlock: reads only where Python lives, writes only in `writable`, no TCP, no signals to outside."""
    import ctypes
    import struct

    def syscall(number, *arguments):
        result = libc.syscall(ctypes.c_long(number), *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), "landlock")
        return result

    create, add_rule, restrict = 444, 445, 446
    version = syscall(create, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    files = 0x1FFF | (0x2000 if version >= 2 else 0) | (0x4000 if version >= 3 else 0) | (0x8000 if version >= 5 else 0)
    fields = [files] + ([0b11] if version >= 4 else []) + ([0b11] if version >= 6 else [])
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = syscall(create, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    execute, write_file, read_file, read_dir = 1, 2, 4, 8
    rules = [(writable, files), ("/dev/null", read_file | write_file), ("/dev/urandom", read_file)]
    rules += [(folder, execute | read_file | read_dir) for folder in readable_folders()]
    for path, access in rules:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", access, handle)
        syscall(add_rule, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0))
        os.close(handle)
    syscall(restrict, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)
    return "landlock on files" + (" and TCP" if version >= 4 else "")


# System calls a program that only computes has no use for: processes, signals, sockets, tracing, mounts, file modes,
# kernel facilities. (architecture, AUDIT_ARCH): (clone, clone3, refused…)
FORBIDDEN_CALLS = {
    ("x86_64", 0xC000003E): (56, 435, [
        41, 42, 49, 53, 57, 58, 59, 62, 90, 91, 92, 93, 94, 101, 129, 133, 155, 161, 164, 165, 166, 167, 169, 170, 172, 173,
        175, 176, 188, 189, 190, 200, 227, 234, 248, 249, 250, 259, 260, 268, 272, 280, 298, 302, 304, 308, 310, 311, 313,
        321, 322, 323, 424, 425, 434, 452,
    ]),
    ("aarch64", 0xC00000B7): (220, 435, [
        5, 6, 7, 33, 39, 40, 41, 51, 52, 53, 54, 55, 88, 97, 105, 106, 112, 117, 129, 130, 131, 138, 142, 161, 170, 198, 199,
        200, 203, 217, 218, 219, 221, 224, 241, 261, 265, 268, 270, 271, 273, 280, 281, 282, 424, 425, 434, 452,
    ]),
}


def restrict_calls(libc):
    """seccomp: no new process, program, socket or signal; threads stay possible."""
    import ctypes
    import struct

    machine = os.uname().machine
    (_, architecture), (clone, clone3, refused) = next(
        (key, calls) for key, calls in FORBIDDEN_CALLS.items() if key[0] == machine
    )
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, refuse = 0x7FFF0000, 0x80000000, 0x00050000
    not_permitted, not_implemented, thread_flag = 1, 38, 0x10000
    program = [
        (load, 0, 0, 4),  # architecture
        (equal, 1, 0, architecture),
        (answer, 0, 0, kill),
        (load, 0, 0, 0),  # call number
        (at_least, 0, 1, 0x40000000),  # x32 numbers would go round the list
        (answer, 0, 0, kill),
        (equal, 0, 1, clone3),  # its flags are out of a filter's reach; glibc then uses clone
        (answer, 0, 0, refuse | not_implemented),
        (equal, 0, 4, clone),
        (load, 0, 0, 16),  # flags, low half
        (any_bit, 0, 1, thread_flag),
        (answer, 0, 0, allow),
        (answer, 0, 0, refuse | not_permitted),
    ]
    for number in refused:
        program += [(equal, 0, 1, number), (answer, 0, 0, refuse | not_permitted)]
    program.append((answer, 0, 0, allow))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    filter_program = Program(len(program), ctypes.addressof(code))
    set_seccomp, filter_mode = 22, 2
    if libc.prctl(set_seccomp, filter_mode, ctypes.byref(filter_program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return "seccomp"


def restrict_kernel(writable):
    """The kernel's own restrictions, as many as this system has."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        no_new_privileges = 38
        if libc.prctl(no_new_privileges, 1, 0, 0, 0) != 0:
            return []
    except (ImportError, OSError, AttributeError, TypeError):
        return []
    active = []
    for restriction in (lambda: restrict_files(libc, writable), lambda: restrict_calls(libc)):
        try:
            active.append(restriction())
        except (OSError, StopIteration, AttributeError):
            pass
    return active


def restrict_python(writable):
    """An audit hook: works on every system, but only stops what goes through Python."""
    readable = tuple(folder + os.sep for folder in readable_folders())
    own = os.path.realpath(writable) + os.sep
    refused = (
        "socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.startfile", "os.kill",
        "os.chmod", "os.chown", "os.link", "os.symlink", "os.chroot", "pty.", "ctypes.", "signal.", "resource.", "syslog.",
        "webbrowser.", "winreg.", "_winapi.",
    )
    changing = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate", "os.utime", "shutil.")
    listing = ("os.listdir", "os.scandir", "os.chdir", "glob.glob")
    realpath, separator = os.path.realpath, os.sep

    def inside(path, folders):
        if isinstance(path, int):
            return True
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        return (realpath(path or ".") + separator).startswith(folders)

    def hook(event, arguments):
        if event.startswith(refused):
            raise PermissionError(f"{event} is not allowed here")
        if event == "open" and arguments[0] is not None:
            path, mode, flags = arguments
            writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            if path not in ("/dev/null", "/dev/urandom") and not inside(path, own if writing else (own, *readable)):
                raise PermissionError(f"{path} is outside")
        elif event.startswith(changing) and not all(inside(path, own) for path in arguments if isinstance(path, (str, bytes))):
            raise PermissionError(f"{event} outside")
        elif event.startswith(listing) and arguments and not inside(arguments[0], (own, *readable)):
            raise PermissionError(f"{event} outside")

    sys.addaudithook(hook)
    return ["audit hook"]


def describe(error):
    return f"{type(error).__name__}: {error}"[:500]


def where(test, error):
    """The line of the test that raised; a one-line test is its own line."""
    lines, number, trace = test.splitlines(), 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "test.py":
            number = trace.tb_lineno
        trace = trace.tb_next
    return lines[number - 1].strip()[:300] if 0 < number <= len(lines) else "?"


def run(code, entry_point, tests):
    """Status and message; passed only if every test ran to its end and called the function."""
    namespace = {"__name__": "solution"}
    try:
        exec(compile(code, "solution.py", "exec"), namespace)
    except BaseException as error:
        return "error", describe(error)
    function = namespace.get(entry_point)
    if not callable(function):
        return "error", f"no function `{entry_point}` is defined"
    calls = 0

    def counted(*arguments, **keywords):
        nonlocal calls
        calls += 1
        return function(*arguments, **keywords)

    for test in tests:
        before = calls
        try:
            exec(compile(test, "test.py", "exec"), {**namespace, entry_point: counted})
        except AssertionError as error:
            return "failed", where(test, error)
        except BaseException as error:
            return "failed", f"{where(test, error)}: {describe(error)}"
        if calls == before:
            return "failed", f"{test.strip()[:300]}: the test does not call `{entry_point}`"
    return "passed", ""


def main():
    job = json.load(sys.stdin)
    folder = os.getcwd()
    report = os.dup(1)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    sys.set_int_max_str_digits(4300) if hasattr(sys, "set_int_max_str_digits") else None
    protection = limit_resources(job["limits"]) + restrict_kernel(folder) + restrict_python(folder)
    status, message = run(job["code"], job["entry_point"], job["tests"])
    answer = {"token": job["token"], "protection": protection, "status": status, "message": message}
    os.write(report, json.dumps(answer).encode() + b"\n")
    os._exit(0)


main()
