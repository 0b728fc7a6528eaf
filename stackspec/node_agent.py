"""Runs on a node, sent there over the connection: reads facts and carries out operations, many per message.

Standard library only, Python 3.9 or newer: nothing is installed on the node. The controlling machine sends
(id, "facts", queries) or (id, "apply", actions); each is answered on its own thread.
"""

import contextlib
import datetime
import grp
import http.client
import os
import pwd
import stat
import subprocess
import tempfile
import threading
import time
import urllib.parse

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
UNIT_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,ExecMainStartTimestamp,ActiveEnterTimestamp,MainPID,Result"
)
APT_LOG = "/var/log/stackspec-apt.log"
POLICY = "/usr/sbin/policy-rc.d"
APT_LOCK = threading.Lock()
# The policy holds starts back only while the apt that wrote it lives, so a killed run leaves nothing behind.
POLICY_TEXT = '#!/bin/sh\n# stackspec\nkill -0 %s 2>/dev/null && exit 101\nrm -f "$0"\nexit 0\n'


class Failed(Exception):
    """An operation that did not succeed; carries what the controlling machine shows."""

    def __init__(self, what, status=None, output="", command="", units=()):
        super().__init__(what)
        self.answer = {
            "what": what,
            "exit_status": status,
            # The dots tell who masks secrets that the first word may be the end of one.
            "output": output if len(output) <= 6000 else "..." + output[-5997:],
            "command": command,
            "journal": journal(units) if units else "",
        }


def execute(argv, stdin="", user="", env=None, timeout=600.0):
    """Run a command; secrets reach it by `stdin` or `env` (of its own process), never by argv."""
    options = {}
    environment = dict(ENVIRONMENT, **(env or {}))
    if user:
        entry = pwd.getpwnam(user)
        groups = [group.gr_gid for group in grp.getgrall() if user in group.gr_mem]
        options = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups, "cwd": "/"}
        environment["HOME"] = entry.pw_dir
    try:
        done = subprocess.run(
            list(argv),
            input=stdin.encode(),
            capture_output=True,
            env=environment,
            timeout=timeout,
            **options,
        )
    except FileNotFoundError:
        return {"status": 127, "out": "", "err": f"{argv[0]}: no such command"}
    except subprocess.TimeoutExpired as error:
        text = (error.stdout or b"") + (error.stderr or b"")
        return {"status": 124, "out": "", "err": f"no end after {timeout:g} s\n{text.decode(errors='replace')}"}
    return {
        "status": done.returncode,
        "out": done.stdout.decode(errors="replace"),
        "err": done.stderr.decode(errors="replace"),
    }


def journal(units, lines=25):
    """The end of the journal of `units`."""
    argv = ["journalctl", "--no-pager", "-q", "-o", "short-precise", "-n", str(lines)]
    for name in units:
        argv += ["-u", name]
    return execute(argv)["out"][-6000:]


# ---- facts


def read_file(path):
    try:
        status = os.lstat(path)
    except OSError:
        return {"exists": False, "content": "", "mtime": 0.0}
    kind = "file" if stat.S_ISREG(status.st_mode) else "directory" if stat.S_ISDIR(status.st_mode) else "link"
    answer = {
        "exists": True,
        "kind": kind,
        "mode": stat.S_IMODE(status.st_mode),
        "owner": _name(pwd.getpwuid, status.st_uid),
        "group": _name(grp.getgrgid, status.st_gid),
        "mtime": status.st_mtime,
        "content": "",
    }
    if kind == "file" and status.st_size < 4 << 20:
        with open(path, "rb") as stream:
            answer["content"] = stream.read().decode(errors="replace")
    elif kind == "link":
        answer["content"] = os.readlink(path)
    return answer


def _name(lookup, number):
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


def settled_units(names, timeout=60.0):
    """States of units, waiting for those that are on their way up: after a power-on that is no state to judge by."""
    until = time.monotonic() + timeout
    while True:
        states = read_units(names)
        if time.monotonic() > until or all(state["active"] != "activating" for state in states.values()):
            return states
        time.sleep(0.5)


def read_units(names):
    argv = ["systemctl", "show", "--no-pager", "--timestamp=us+utc", "--property=" + UNIT_PROPERTIES, "--"]
    blocks = execute(argv + [n if "." in n else n + ".service" for n in names])["out"].split("\n\n")
    answers = {}
    for name, block in zip(names, blocks):
        found = dict(line.split("=", 1) for line in block.strip().splitlines() if "=" in line)
        answers[name] = {
            "load": found.get("LoadState", ""),
            "active": found.get("ActiveState", ""),
            "sub": found.get("SubState", ""),
            "enabled": found.get("UnitFileState", ""),
            "result": found.get("Result", ""),
            "pid": int(found.get("MainPID") or 0),
            "started": _moment(found.get("ExecMainStartTimestamp") or found.get("ActiveEnterTimestamp", "")),
        }
    return answers


def _moment(text):
    try:
        moment = datetime.datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S.%f %Z")
    except ValueError:
        return 0.0
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def read_packages(names):
    """Versions from dpkg's status file: one pass, no process."""
    wanted, found, entry = set(names), {}, {}
    try:
        with open("/var/lib/dpkg/status", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line == "\n":
                    entry = {}
                elif line.startswith(("Package:", "Status:", "Version:")):
                    key, value = line.split(":", 1)
                    entry[key] = value.strip()
                    installed = entry.get("Status", "").endswith(" installed")
                    if "Version" in entry and installed and entry["Package"] in wanted:
                        found[entry["Package"]] = entry["Version"]
    except OSError:
        pass
    return {name: found.get(name) for name in names}


def get(url, timeout=10.0):
    """Status of a GET without following redirects, or the error as text."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", (parts.path or "/") + ("?" + parts.query if parts.query else ""))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def facts(queries):
    """Answers in the order of `queries` ([op, args]); all units and all packages in one look each."""
    names = {kind: [args[0] for op, args in queries if op == kind] for kind in ("unit", "package")}
    units = settled_units(names["unit"]) if names["unit"] else {}
    packages = read_packages(names["package"]) if names["package"] else {}
    answers = []
    for op, args in queries:
        if op == "unit":
            answers.append(
                units.get(args[0], {"load": "unknown", "active": "", "sub": "", "enabled": "", "started": 0.0})
            )
        elif op == "package":
            answers.append(packages[args[0]])
        elif op == "file":
            answers.append(read_file(args[0]))
        elif op == "bytes":
            answers.append(read_bytes(args[0]))
        elif op == "disk":
            answers.append(read_disk(args[0]))
        elif op == "http":
            answers.append(get(args[0]))
        elif op == "run":
            answers.append(execute(args[0], stdin=args[1], user=args[2], timeout=60.0))
        else:
            raise Failed(f"unknown query {op}")
    return answers


def read_bytes(path):
    """The file itself, None when there is none."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def read_disk(path):
    """A block device: what blkid finds on it, where it or a part of it is mounted, what else holds it or a part."""
    answer = {"exists": os.path.exists(path), "block": False, "content": {}, "mounted": [], "holders": []}
    answer["path"] = os.path.realpath(path)
    if not answer["exists"]:
        return answer
    status = os.stat(path)
    answer["block"] = stat.S_ISBLK(status.st_mode)
    if not answer["block"]:
        return answer
    # Of the device itself: neither udev nor a cache, which may be behind.
    done = execute(["blkid", "--probe", "--output", "export", path])
    if done["status"] != 2:
        lines = [line.split("=", 1) for line in done["out"].splitlines() if "=" in line]
        answer["content"] = dict(lines) or {"TYPE": "several things at once"}
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    folder = f"/sys/dev/block/{number}"
    parts = [name for name in os.listdir(folder) if os.path.exists(f"{folder}/{name}/partition")]
    numbers = {number, *(read_file(f"{folder}/{name}/dev")["content"].strip() for name in parts)}
    with open("/proc/self/mountinfo") as stream:
        rows = [line.split() for line in stream]
    answer["mounted"] = sorted({row[4] for row in rows if row[2] in numbers})
    answer["holders"] = sorted({name for part in ("", *parts) for name in os.listdir(f"{folder}/{part}/holders")})
    return answer


# ---- operations


def write(path, content, mode=None, owner=None, group=None):
    """Write a file, text or bytes, whole and atomically. What is not given stays as it is, or is 0644 root when new."""
    before = read_file(path)
    if before["exists"] and before["kind"] == "link" and not path.startswith("/proc"):
        path = os.path.realpath(path)
        before = read_file(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    mode = mode if mode is not None else before.get("mode", 0o644)
    uid = pwd.getpwnam(owner or before.get("owner", "root")).pw_uid
    gid = grp.getgrnam(group or before.get("group", "root")).gr_gid
    if path == "/etc/hosts" or os.path.ismount(path):
        with open(path, "w") as stream:
            stream.write(content)
        return
    descriptor, temporary = tempfile.mkstemp(prefix=".stackspec-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content if isinstance(content, bytes) else content.encode())
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    if path.startswith("/etc/systemd/system/") or path == "/etc/fstab":
        execute(["systemctl", "daemon-reload"])


def directory(path, mode=0o755, owner="root", group="root"):
    os.makedirs(path, exist_ok=True)
    os.chown(path, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
    os.chmod(path, mode)


def command(argv, stdin="", user="", env=None, timeout=600.0, expect=(0,), what="", units=(), show=""):
    """Run a command that changes something; `show` is its text without secrets."""
    done = execute(argv, stdin, user, env, timeout)
    if done["status"] not in expect:
        text = show or " ".join(argv)
        raise Failed(what or text, done["status"], done["err"] + done["out"], text, units)
    return done["out"]


def systemctl(verb, units, timeout=300.0):
    """One systemctl call for all `units`; restart and start wait until they are active."""
    if verb in ("start", "restart"):
        execute(["systemctl", "reset-failed", "--", *units])
    done = execute(["systemctl", verb, "--", *units], timeout=timeout)
    if done["status"]:
        show = f"systemctl {verb} {' '.join(units)}"
        raise Failed(f"{verb} {', '.join(units)}", done["status"], done["err"] + done["out"], show, units)


def await_active(units, timeout=60.0):
    """Wait until `units` are active and not restarting."""
    until = time.monotonic() + timeout
    while True:
        states = read_units(list(units))
        waiting = [name for name, state in states.items() if state["active"] != "active"]
        if not waiting:
            return
        if time.monotonic() > until:
            found = ", ".join(f"{name} is {states[name]['active']} ({states[name]['sub']})" for name in waiting)
            raise Failed(f"no {', '.join(waiting)} after {timeout:g} s: {found}", units=waiting)
        time.sleep(0.1)


def await_http(url, statuses, timeout=90.0, units=()):
    """Wait until a GET of `url` is answered with one of `statuses`."""
    until = time.monotonic() + timeout
    while True:
        answer = get(url)
        if answer in statuses:
            return
        if time.monotonic() > until:
            raise Failed(f"{url} answers {answer!r} after {timeout:g} s, wanted {statuses}", units=units)
        time.sleep(0.2)


def await_command(argv, stdin="", user="", timeout=60.0, what="", units=()):
    """Wait until a command that only reads ends with 0."""
    until = time.monotonic() + timeout
    while True:
        done = execute(argv, stdin, user, timeout=timeout)
        if done["status"] == 0:
            return
        if time.monotonic() > until:
            shown = " ".join(argv)
            raise Failed(what or shown, done["status"], done["err"] + done["out"], shown, units)
        time.sleep(0.3)


def apt(packages, update=False, say=None):
    """Install in one transaction with service starts held back, then do what the held-back scripts would have done."""
    with APT_LOCK:
        _apt(packages, update, say)


def _apt(packages, update, say):
    options = ["-q", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Options::=--force-confdef"]
    options += ["-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0"]
    script = (
        f'printf %s "$POLICY" | sed "s/PID/$$/" >{POLICY}.new && chmod 755 {POLICY}.new'
        f' && mv {POLICY}.new {POLICY} && exec "$@"'
    )
    env = dict(
        ENVIRONMENT, DEBIAN_FRONTEND="noninteractive", POLICY=POLICY_TEXT % "PID", APT_LISTCHANGES_FRONTEND="none"
    )
    # Else systemd reads all units anew for each package that brings one, a hundred times; it does so once, below.
    env["SYSTEMD_OFFLINE"] = "1"
    # A list that cannot be fetched is an error here and not a warning, as the packages would be missed later.
    calls = [["apt-get", "update", "-o", "APT::Update::Error-Mode=any", *options[:4]]] if update else []
    calls.append(["apt-get", "install", *options, *packages])
    for argv in calls:
        with open(APT_LOG, "ab") as log:
            start = log.tell()
            # A session of its own: when the connection dies, apt finishes what it began.
            child = subprocess.Popen(
                ["sh", "-c", script, "sh", *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )
        follow(child, start, say)
        if os.path.exists(POLICY):
            os.unlink(POLICY)
        if child.returncode:
            with open(APT_LOG, "rb") as log:
                log.seek(start)
                output = log.read().decode(errors="replace")
            raise Failed("install packages", child.returncode, output, "apt-get install ...")
    execute(["systemctl", "daemon-reload"])
    # Held-back scripts skip these, and libvirt then refuses its clients for want of polkit's name on the bus.
    execute(["systemctl", "reload", "dbus"])
    execute(["systemctl", "try-restart", "polkit"])


def follow(child, start, say):
    """Report apt's own progress lines while it runs."""
    position, last = start, 0.0
    while child.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.5)
        with open(APT_LOG, "rb") as log:
            log.seek(position)
            text = log.read()
            position += len(text)
        lines = [line for line in text.decode(errors="replace").splitlines() if line.startswith(("Setting up", "Get:"))]
        if lines and say and time.monotonic() - last > 5.0:
            last = time.monotonic()
            say(lines[-1][:100])


def record(path, line, limit=1000):
    """Append a line to the node's ledger, which keeps the last `limit` lines."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    lines = read_file(path)["content"].splitlines()[-limit:]
    write(path, "\n".join([*lines, line]) + "\n", mode=0o600)


OPERATIONS = {
    "write": write,
    "directory": directory,
    "command": command,
    "systemctl": systemctl,
    "await_active": await_active,
    "await_http": await_http,
    "await_command": await_command,
    "apt": apt,
    "record": record,
    "remove": lambda path: os.unlink(path) if os.path.lexists(path) else None,
}


# ---- the loop


def serve(channel):
    """Answer messages until the channel closes."""
    lock = threading.Lock()

    def send(*message):
        with lock:
            channel.send(message)

    def answer(number, kind, items):
        try:
            if kind == "facts":
                send(number, "done", facts(items))
                return
            for index, item in enumerate(items):
                arguments = {key: value for key, value in item.items() if key != "op"}
                if item["op"] == "apt":
                    arguments["say"] = lambda text: send(number, "says", text)
                OPERATIONS[item["op"]](**arguments)
                send(number, "applied", index)
            send(number, "done", None)
        except Failed as error:
            send(number, "failed", error.answer)
        except Exception as error:
            send(number, "failed", {"what": f"{type(error).__name__}: {error}", "output": ""})

    for message in channel:
        threading.Thread(target=answer, args=message, daemon=True).start()


if __name__ == "__channelexec__":
    serve(channel)  # noqa: F821  (execnet puts it there)
