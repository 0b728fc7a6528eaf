"""Runs on a node, sent there over the connection: reads facts and executes operations, many per message.

Standard library only, Python 3.9 or newer: nothing is installed on the node. The controlling machine sends
(id, "facts", queries) or (id, "apply", actions); each is answered on its own thread.
"""

import contextlib
import datetime
import errno
import fcntl
import glob
import grp
import hashlib
import http.client
import json
import os
import pwd
import signal
import stat
import subprocess
import tempfile
import threading
import time
import urllib.parse

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
UNIT_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,ExecMainStartTimestamp,ActiveEnterTimestamp,MainPID,Result,"
    "InvocationID,NeedDaemonReload"
)
# One file per unit that was started here: the id of that start, and the digests of the unit's files.
STARTED = "/var/lib/stackspec/started"
COMMANDS, ETC = "/usr/bin", "/etc"
APT_LOG = "/var/log/stackspec-apt.log"
PROC = "/proc"
# The part of a CPU's time that a service uses at least while it works on its start.
AT_WORK = 0.05
# A start is waited for up to this multiple of its timeout.
LONGEST = 8
POLICY = "/usr/sbin/policy-rc.d"
# Locks of the node; commands inherit them, so a command that outlives its connection keeps them.
LOCKS = []
RECORD_LOCK = threading.Lock()
KEPT_POLICY = POLICY + ".kept"
DPKG = "/var/lib/dpkg"
APT_LOCK = threading.Lock()
# Exists from the start of an installation until its follow-up commands are done.
INSTALLING = "/var/lib/stackspec/installing"
# The policy prevents starts only while its apt runs; after a killed run it restores the operator's own policy.
POLICY_MARK = "#!/bin/sh\n# stackspec\n"
POLICY_TEXT = (
    POLICY_MARK + "kill -0 PID 2>/dev/null && exit 101\n"
    'if [ -e "$0.kept" ] || [ -h "$0.kept" ]; then mv -f "$0.kept" "$0"; exec "$0" "$@"; fi\nrm -f "$0"\nexit 0\n'
)

# Units that a deployment installs and its steps start: off at boot until configured, although packages enable them.
HELD = "/var/lib/stackspec/held"
# Exists if a deployment has run since the last boot.
DEPLOYING = "/run/stackspec-deploying"
# systemd runs it at each boot and daemon-reload, to generate units.
GENERATOR = "/etc/systemd/system-generators/stackspec-held"
GENERATOR_TEXT = f"""\
#!/bin/sh
# Made by stackspec. The node lost power during a deployment: services that are not configured yet stay off, because
# they would take other services' ports, or restart in a loop. The next deployment starts them.
[ ! -e {DEPLOYING} ] && [ -e {HELD} ] || exit 0
while read -r unit; do
    case $unit in *.*) name=$unit ;; *) name=$unit.service ;; esac
    ln -sf /dev/null "$2/$name"
done <{HELD}
"""


class Failed(Exception):
    """A failed operation, with the details that the controlling machine shows."""

    def __init__(self, what, status=None, output="", command="", units=()):
        super().__init__(what)
        self.answer = {
            "what": what,
            "exit_status": status,
            # The dots tell the masking code that the first word may be the end of a secret.
            "output": output if len(output) <= 6000 else "..." + output[-5997:],
            "command": command,
            "journal": journal(units) if units else "",
        }


def execute(argv, stdin="", user="", env=None, timeout=600.0):
    """Run a command; secrets are passed in `stdin` or `env` (of its own process), never in argv."""
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
            pass_fds=LOCKS,
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
        return {"exists": False, "content": "", "mtime": 0.0, "ctime": 0.0}
    kind = "file" if stat.S_ISREG(status.st_mode) else "directory" if stat.S_ISDIR(status.st_mode) else "link"
    answer = {
        "exists": True,
        "kind": kind,
        "mode": stat.S_IMODE(status.st_mode),
        "owner": _name(pwd.getpwuid, status.st_uid),
        "group": _name(grp.getgrgid, status.st_gid),
        "mtime": status.st_mtime,
        "ctime": status.st_ctime,
        "content": "",
    }
    if kind == "file" and status.st_size < 32 << 20:
        with open(path, "rb") as stream:
            answer["content"] = stream.read().decode(errors="surrogateescape")
    elif kind == "link":
        answer["content"] = os.readlink(path)
    return answer


def digest(found: dict) -> str:
    """Digest of a file's content, as returned by `read_file`."""
    return hashlib.sha256(_bytes(found["content"])).hexdigest() if found["exists"] else "absent"


def _bytes(content):
    """Text as the original bytes, even if they are not UTF-8."""
    return content if isinstance(content, bytes) else content.encode(errors="surrogateescape")


def portable(answer):
    """The result of `read_file` in a form that the connection can send: text that is not UTF-8 is sent as bytes."""
    content = _bytes(answer["content"])
    return answer if content.isascii() or _is_text(content) else {**answer, "content": content}


def _is_text(content):
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _name(lookup, number):
    try:
        return lookup(number)[0]
    except KeyError:
        return str(number)


def settled_units(names, timeout=60.0, reloaded_within=5.0):
    """States of units, waiting for those that are starting: right after power-on, states are not final.

    The same while another process makes systemd reload its unit files, which may affect any unit.
    """
    began = time.monotonic()
    while True:
        states, waited = read_units(names), time.monotonic() - began
        activating = any(state["active"] == "activating" for state in states.values())
        outdated = any(state["outdated"] for state in states.values())
        if not ((activating and waited <= timeout) or (outdated and waited <= reloaded_within)):
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
            "invocation": found.get("InvocationID", ""),
            "outdated": found.get("NeedDaemonReload") == "yes",
            "started": _moment(found.get("ExecMainStartTimestamp") or found.get("ActiveEnterTimestamp", "")),
        }
    return answers


def started_with(name):
    """The record of a unit's last start here: {invocation, files}; the digest of a file that we changed since is ""."""
    text = read_file(f"{STARTED}/{name}")["content"]
    return json.loads(text) if text else {"invocation": "", "files": {}}


def _moment(text):
    try:
        moment = datetime.datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S.%f %Z")
    except ValueError:
        return 0.0
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def read_packages(names):
    """Versions from dpkg's status file: read once, without a process."""
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
    """Answers in the order of `queries` ([op, args]); all units, and all packages, are read at once."""
    names = {kind: [args[0] for op, args in queries if op == kind] for kind in ("unit", "package")}
    units = settled_units(names["unit"]) if names["unit"] else {}
    packages = read_packages(names["package"]) if names["package"] else {}
    answers = []
    for op, args in queries:
        if op == "unit":
            unknown = {"load": "unknown", "active": "", "sub": "", "enabled": "", "started": 0.0}
            unknown.update(invocation="", outdated=False)
            answers.append({**units.get(args[0], unknown), "started_with": started_with(args[0])})
        elif op == "package":
            answers.append(packages[args[0]])
        else:
            answers.append(QUERIES[op](*args))
    return answers


def read_bytes(path):
    """The file's content as bytes, None if there is none."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def read_disk(path):
    """A block device: its content according to blkid, mount points, and other users of it or of a partition."""
    answer = {"exists": os.path.exists(path), "block": False, "content": {}, "mounted": [], "holders": []}
    answer["id"] = ""
    answer["path"] = os.path.realpath(path)
    if not answer["exists"]:
        return answer
    status = os.stat(path)
    answer["block"] = stat.S_ISBLK(status.st_mode)
    if not answer["block"]:
        return answer
    # Probe the device itself: udev and blkid's cache may be outdated.
    done = execute(["blkid", "--probe", "--output", "export", path])
    if done["status"] not in (0, 2, 8):
        raise Failed(f"look at {path}", done["status"], done["err"] + done["out"], f"blkid --probe {path}")
    if done["status"] == 2:
        answer["content"] = without_signature(path)
    else:
        lines = [line.split("=", 1) for line in done["out"].splitlines() if "=" in line]
        answer["content"] = dict(lines) or {"TYPE": "several things at once"}
    answer["id"] = disk_id(path, answer["content"])
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    folder = f"/sys/dev/block/{number}"
    parts = [name for name in os.listdir(folder) if os.path.exists(f"{folder}/{name}/partition")]
    numbers = {number, *(read_file(f"{folder}/{name}/dev")["content"].strip() for name in parts)}
    with open("/proc/self/mountinfo") as stream:
        rows = [line.split() for line in stream]
    answer["mounted"] = sorted({row[4] for row in rows if row[2] in numbers})
    answer["holders"] = sorted({name for part in ("", *parts) for name in os.listdir(f"{folder}/{part}/holders")})
    return answer


def without_signature(path, samples=256, size=1 << 16):
    """Content of a device that blkid does not recognise: {} if it is blank, judged by samples from start to end."""
    try:
        with open(path, "rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            places = {max(0, min(end - size, end * each // samples)) for each in range(samples + 1)}
            for place in sorted({*range(0, min(end, 4 << 20), size), *places}):
                stream.seek(place)
                if stream.read(size).strip(b"\0"):
                    return {"TYPE": "data without a signature"}
    except OSError as error:
        return {"TYPE": f"what cannot be read: {error.strerror}"}
    return {}


def disk_id(path, content):
    """A disk's id, independent of where it is plugged in: serial number or WWN, otherwise the UUID of its content."""
    done = execute(["lsblk", "--json", "--nodeps", "--output", "SERIAL,WWN", path])
    if done["status"]:
        raise Failed(f"look at {path}", done["status"], done["err"] + done["out"], f"lsblk {path}")
    (row,) = json.loads(done["out"])["blockdevices"]
    found = row.get("serial") or row.get("wwn") or content.get("UUID") or content.get("PTUUID") or ""
    return found.strip()


# ---- operations


def write(path, content, mode=None, owner=None, group=None):
    """Write a file, text or bytes, atomically. Unset attributes stay; a new file is owned by root with mode 0644."""
    outdate([path])
    _replace(path, content, mode, owner, group)


def outdate(names):
    """Record, before the change, that files or other inputs of units change: running units count as started before it.

    The record outlives this run: a content that is restored later does not show what a unit has read in between.
    """
    with RECORD_LOCK:
        for unit in os.listdir(STARTED) if os.path.isdir(STARTED) else ():
            # With a dot: a partly written record of a killed run.
            kept = started_with(unit) if unit[0] != "." else {"files": {}}
            outdated = [name for name in names if kept["files"].get(name)]
            if outdated:
                kept["files"].update(dict.fromkeys(outdated, ""))
                _replace(f"{STARTED}/{unit}", json.dumps(kept), 0o600)


def _replace(path, content, mode=None, owner=None, group=None):
    before = read_file(path)
    if before["exists"] and before["kind"] == "link" and not path.startswith("/proc"):
        path = os.path.realpath(path)
        before = read_file(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    mode = mode if mode is not None else before.get("mode", 0o644)
    uid = pwd.getpwnam(owner or before.get("owner", "root")).pw_uid
    gid = grp.getgrnam(group or before.get("group", "root")).gr_gid
    descriptor, temporary = tempfile.mkstemp(prefix=".stackspec-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(_bytes(content))
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)
            _to_disk(stream)
        try:
            os.replace(temporary, path)
        except OSError as error:
            # A mount point, such as /etc/hosts in containers: only its content can be changed.
            if error.errno != errno.EBUSY:
                raise
            with open(path, "wb") as stream:
                stream.write(_bytes(content))
                _to_disk(stream)
            os.unlink(temporary)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _folder_to_disk(folder)
    if path.startswith("/etc/systemd/system/") or path == "/etc/fstab":
        execute(["systemctl", "daemon-reload"])


def _to_disk(stream):
    stream.flush()
    os.fsync(stream.fileno())


def _folder_to_disk(folder):
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def directory(path, mode, owner, group):
    os.makedirs(path, exist_ok=True)
    os.chown(path, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
    os.chmod(path, mode)


def command(argv, stdin="", user="", env=None, timeout=600.0, expect=(0,), what="", units=(), show="", repair=()):
    """Run a command that changes something; `show` is its text without secrets.

    If it fails and there is something to `repair`, it is run once more after these operations.
    """
    done = execute(argv, stdin, user, env, timeout)
    if done["status"] not in expect and repair:
        for item in repair:
            command(**{key: value for key, value in item.items() if key != "op"})
        done = execute(argv, stdin, user, env, timeout)
    if done["status"] not in expect:
        text = show or " ".join(argv)
        raise Failed(what or text, done["status"], done["err"] + done["out"], text, units)
    return done["out"]


def systemctl(verb, units, timeout=300.0, reads=()):
    """One systemctl call for all `units`; restart and start wait until they are active.

    After a restart, records the content with which the units were started: of `reads`, and of their files from before.
    """
    read = {name: {*reads, *started_with(name)["files"]} for name in units} if verb == "restart" else {}
    # Read before they start: a later change may or may not be effective.
    now = {path: digest(read_file(path)) for paths in read.values() for path in paths}
    if verb in ("start", "restart"):
        execute(["systemctl", "reset-failed", "--", *units])
    done = execute(["systemctl", verb, "--", *units], timeout=timeout)
    if done["status"]:
        show = f"systemctl {verb} {' '.join(units)}"
        raise Failed(f"{verb} {', '.join(units)}", done["status"], done["err"] + done["out"], show, units)
    if now:
        states = read_units(list(units))
        with RECORD_LOCK:
            os.makedirs(STARTED, mode=0o700, exist_ok=True)
            for name, paths in read.items():
                kept = {"invocation": states[name]["invocation"], "files": {path: now[path] for path in sorted(paths)}}
                _replace(f"{STARTED}/{name}", json.dumps(kept), 0o600)


def cpu_time(units):
    """Seconds of CPU time of each process of `units`, by process id and start."""
    names = [f"/{name if '.' in name else name + '.service'}" for name in units]
    used = {}
    for pid in filter(str.isdigit, os.listdir(PROC)):
        try:
            with open(f"{PROC}/{pid}/cgroup") as lines:
                groups = lines.read()
            if any(name in groups for name in names):
                with open(f"{PROC}/{pid}/stat") as line:
                    fields = line.read().rpartition(")")[2].split()
                used[pid, fields[19]] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        except OSError:  # it has ended
            continue
    return used


class Patience:
    """Ends a wait for a service when `timeout` has passed and it does not work on its start any more.

    A service at work uses CPU time; on a slow machine its start takes long. One that ends and starts over and over is
    not at work: only processes that live on count.
    """

    def __init__(self, timeout, units):
        self._units, self._timeout, self._began = units, timeout, time.monotonic()
        self._until, self._before = timeout, None

    def over(self):
        """Whether to give up."""
        waited = time.monotonic() - self._began
        if self._before is None and waited >= self._until - self._timeout / 2:
            self._before = cpu_time(self._units)
        if waited < self._until:
            return False
        now = cpu_time(self._units)
        used = sum(max(now[each] - self._before[each], 0) for each in now.keys() & self._before.keys())
        if used < AT_WORK * self._timeout / 2 or waited >= LONGEST * self._timeout:
            return True
        self._until, self._before = self._until + self._timeout, None
        return False

    def __str__(self):
        return f"{self._until:g} s"


def await_active(units, timeout=60.0):
    """Wait until `units` are active and not restarting."""
    patience = Patience(timeout, units)
    while True:
        states = read_units(list(units))
        waiting = [name for name, state in states.items() if state["active"] != "active"]
        if not waiting:
            return
        if patience.over():
            found = ", ".join(f"{name} is {states[name]['active']} ({states[name]['sub']})" for name in waiting)
            raise Failed(f"no {', '.join(waiting)} after {patience}: {found}", units=waiting)
        time.sleep(0.1)


def await_http(url, statuses, timeout=90.0, units=()):
    """Wait until a GET of `url` returns one of `statuses`."""
    patience = Patience(timeout, units)
    while True:
        answer = get(url)
        if answer in statuses:
            return
        if patience.over():
            raise Failed(f"{url} answers {answer!r} after {patience}, wanted {list(statuses)}", units=units)
        time.sleep(0.2)


def await_command(argv, stdin="", user="", timeout=60.0, what="", units=()):
    """Wait until a read-only command exits with 0."""
    patience = Patience(timeout, units)
    while True:
        done = execute(argv, stdin, user, timeout=timeout)
        if done["status"] == 0:
            return
        if patience.over():
            shown = " ".join(argv)
            raise Failed(what or shown, done["status"], done["err"] + done["out"], shown, units)
        time.sleep(0.3)


def apt(packages, update=False, off=(), say=None):
    """Install in one transaction without starting services, then do what the suppressed scripts would have done.

    New units named in `off` also stay off at boot, until a step has started them.
    """
    with APT_LOCK:
        keep_off(off)
        _apt(packages, update, say)
        _follow_packages()


def keep_off(units):
    """Keep new units among these from starting at boot until their step is done."""
    with RECORD_LOCK:
        known = set(read_file(HELD)["content"].split())
        new = [name for name in units if name not in known]
        new = [name for name, state in (read_units(new) if new else {}).items() if state["load"] == "not-found"]
        if new:
            open(DEPLOYING, "w").close()
            _replace(HELD, "\n".join(sorted({*known, *new})) + "\n", 0o644)
            _replace(GENERATOR, GENERATOR_TEXT, 0o755)


def in_service(units):
    """The steps of these units are done: start them at boot. After the last one, all traces of holding are removed."""
    with RECORD_LOCK:
        known = read_file(HELD)["content"].split()
        rest = [name for name in known if name not in units]
        if rest and rest != known:
            _replace(HELD, "\n".join(rest) + "\n", 0o644)
        elif known and not rest:
            os.unlink(HELD)
            os.unlink(GENERATOR)


def let_start():
    """Note that nothing unconfigured has been started since this boot; steps may start their units now."""
    if os.path.exists(HELD) and not os.path.exists(DEPLOYING):
        open(DEPLOYING, "w").close()
        execute(["systemctl", "daemon-reload"])


def finish_apt(say=None):
    """Finish an installation whose run was killed."""
    with APT_LOCK:
        _apt([], False, say)
        _follow_packages()


def unfinished():
    """Whether an installation was started but not finished; one that is running now does not count."""
    if not APT_LOCK.acquire(blocking=False):
        return False
    try:
        return os.path.exists(INSTALLING)
    finally:
        APT_LOCK.release()


def _follow_packages():
    execute(["systemctl", "daemon-reload"])
    # Suppressed scripts skip these; libvirt then refuses clients because polkit's name is not on the bus.
    execute(["systemctl", "reload", "dbus"])
    execute(["systemctl", "try-restart", "polkit"])
    if os.path.exists(INSTALLING):
        os.unlink(INSTALLING)


APT_OPTIONS = ["-q", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Options::=--force-confdef"]
APT_OPTIONS += ["-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0"]


def _apt(packages, update, say):
    await_dpkg()
    os.makedirs(os.path.dirname(INSTALLING), mode=0o700, exist_ok=True)
    _replace(INSTALLING, "", 0o600)
    keep_policy()
    try:
        broken = interrupted()
        if broken:
            # Packages that lack a dependency cannot be configured here; apt repairs them.
            _held_back(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"], say)
        if update or broken:
            # A list that cannot be downloaded is an error here, not a warning, since packages would be missing later.
            _install(["update", "-o", "APT::Update::Error-Mode=any", *APT_OPTIONS[:4]], say)
        if broken:
            # Packages whose unpacking was killed are not repaired by --fix-broken alone.
            _install(["install", "--fix-broken", "--reinstall", *APT_OPTIONS, *half_unpacked()], say)
        if packages:
            _install(["install", *APT_OPTIONS, *packages], say)
    finally:
        restore_policy()


def _install(argv, say):
    """Run apt-get; its failure ends the step."""
    status, output = _held_back(["apt-get", *argv], say)
    if status:
        raise Failed("install packages", status, output, f"apt-get {argv[0]} ...")


def _held_back(argv, say):
    """Run an installation tool while services must not start; return its exit status and output."""
    script = (
        f'printf %s "$POLICY" | sed "s/PID/$$/" >{POLICY}.new && chmod 755 {POLICY}.new'
        f' && mv {POLICY}.new {POLICY} && exec "$@"'
    )
    env = dict(ENVIRONMENT, DEBIAN_FRONTEND="noninteractive", POLICY=POLICY_TEXT, APT_LISTCHANGES_FRONTEND="none")
    # Otherwise systemd reloads all units for each package with a unit, a hundred times; here once, afterwards.
    env["SYSTEMD_OFFLINE"] = "1"
    with open(APT_LOG, "ab") as log:
        start = log.tell()
        # In its own session: if the connection is lost, apt finishes its work.
        child = subprocess.Popen(
            ["sh", "-c", script, "sh", *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
            pass_fds=LOCKS,
        )
    follow(child, start, say)
    with open(APT_LOG, "rb") as log:
        log.seek(start)
        return child.returncode, log.read().decode(errors="replace")


def await_dpkg(timeout=600.0):
    """Wait until no other installation runs: apt of a killed run may still be active."""
    until = time.monotonic() + timeout
    with open(f"{DPKG}/lock-frontend", "a") as lock:
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError, PermissionError):
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(1)
    raise Failed(
        f"another process has been installing packages for {timeout:g} s: it holds {DPKG}/lock-frontend; end it"
    )


def interrupted():
    """Whether dpkg was interrupted: apt refuses everything until that is repaired."""
    updates = f"{DPKG}/updates"
    journal = os.path.isdir(updates) and any(name.isdigit() for name in os.listdir(updates))
    return journal or bool(execute(["dpkg", "--audit"])["out"].strip())


def half_unpacked():
    """Packages with only part of their files, because dpkg was killed while unpacking them."""
    listed = execute(["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}|${binary:Package}\n"])["out"]
    states = [line.split("|") for line in listed.splitlines()]
    # Selected for installation, and half-installed or marked for reinstallation.
    return [name for state, name in states if state.startswith("i") and (state[1] == "H" or state[2:3] == "R")]


def keep_policy():
    """Move the operator's own policy for service starts aside; `restore_policy`, or our policy itself, restores it."""
    if not os.path.lexists(POLICY):
        return
    if not read_file(POLICY)["content"].startswith(POLICY_MARK):
        if os.path.lexists(KEPT_POLICY):
            os.unlink(KEPT_POLICY)
        os.link(POLICY, KEPT_POLICY, follow_symlinks=False)


def restore_policy():
    """Remove our policy, and restore the operator's, if there was one."""
    if os.path.lexists(KEPT_POLICY):
        os.replace(KEPT_POLICY, POLICY)
    elif os.path.lexists(POLICY):
        os.unlink(POLICY)


def follow(child, start, say, silence=1800.0):
    """Report apt's progress lines while it runs; kill it after `silence` seconds without output."""
    position, last, heard = start, 0.0, time.monotonic()
    while child.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.5)
        with open(APT_LOG, "rb") as log:
            log.seek(position)
            text = log.read()
            position += len(text)
        heard = time.monotonic() if text else heard
        if time.monotonic() - heard > silence:
            os.killpg(child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(30)
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise Failed(f"apt-get wrote nothing for {silence:g} s and was ended; its log: {APT_LOG}", child.returncode)
        lines = [line for line in text.decode(errors="replace").splitlines() if line.startswith(("Setting up", "Get:"))]
        if lines and say and time.monotonic() - last > 5.0:
            last = time.monotonic()
            say(lines[-1][:100])


def record(path, line, limit=1000):
    """Append a line to the node's ledger, which keeps the last `limit` lines, and the last line of each step."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with RECORD_LOCK:
        lines = read_file(path)["content"].splitlines()
        last = {_step_of(each): number for number, each in enumerate(lines)}
        kept = {*last.values(), *range(len(lines) - limit, len(lines))}
        lines = [each for number, each in enumerate(lines) if number in kept]
        _replace(path, "\n".join([*lines, line]) + "\n", mode=0o600)


def _step_of(line):
    with contextlib.suppress(ValueError, AttributeError):
        return json.loads(line).get("step")
    return None


def hold(path, holder, run_timeout=20.0, command_timeout=900.0, say=None):
    """Lock the node for this interpreter. A live run is waited for briefly, operations of a dead one until they end."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    began, told = time.monotonic(), 0.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            text, _, agent = read_file(path)["content"].partition("\n")
            holders = holders_of(path)
        lives = agent.strip() in holders
        if lives and text == holder:
            # Our own interpreter of a lost connection; its operations hold the lock, so wait for them.
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(agent), signal.SIGKILL)
        commands = "; ".join(f"{pid} {argv}" for pid, argv in holders.items() if pid != agent.strip())
        busy = f"{text} deploys here" if lives else f"a command of {text} still runs here: {commands}"
        now = time.monotonic()
        if now - began > (run_timeout if lives else command_timeout):
            os.close(descriptor)
            raise Failed(f"{busy}; wait for its end, or end it, and deploy again")
        if say and now - told > 10.0:
            told = now
            say("waits: " + busy)
        time.sleep(0.3)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{holder}\n{os.getpid()}\n".encode(), 0)
    LOCKS.append(descriptor)
    let_start()


def uses(pattern, kept):
    """What uses each path that matches a glob pattern, of those that do not begin with `kept`.

    These are processes that were started from below it, run in it, or have a file there mapped or open; and commands
    that are links into it, and files and links in /etc that name it.
    """
    found = {path: [] for path in sorted(glob.glob(pattern)) if not path.startswith(kept)}
    for name, text in (*_processes(), *_references()) if found else ():
        for path, users in found.items():
            if path.encode() in text:
                users.append(name)
    return found


def _processes():
    """Each process of the node, in words, and all paths that tell what it uses."""
    for here in glob.glob("/proc/[0-9]*"):
        links = (f"{here}/cwd", f"{here}/exe", *glob.glob(f"{here}/fd/*"))
        paths = [_known(each) for each in (f"{here}/cmdline", f"{here}/environ", f"{here}/maps", *links)]
        yield (
            f"{_known(f'{here}/comm').decode(errors='replace').strip()} (process {os.path.basename(here)})",
            b"\0".join(paths),
        )


def _references():
    """Each link in /usr/bin and /etc with its target, each file in /etc with its content."""
    for top in (COMMANDS, ETC):
        for folder, folders, names in os.walk(top):
            for path in (f"{folder}/{name}" for name in (*folders, *names)):
                if os.path.islink(path) or (top == ETC and os.path.isfile(path)):
                    yield path, _known(path)


def _known(path):
    """The target of a link, or the content of a file, which both may be gone by now."""
    with contextlib.suppress(OSError):
        return os.fsencode(os.readlink(path)) if os.path.islink(path) else read_bytes(path) or b""
    return b""


def holders_of(path):
    """Other processes that have the file open: id -> command line."""
    found = {}
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if any(os.path.realpath(f"/proc/{pid}/fd/{n}") == path for n in os.listdir(f"/proc/{pid}/fd")):
                with open(f"/proc/{pid}/cmdline") as stream:
                    found[pid] = stream.read().replace("\0", " ").strip()[:100]
    return found


# In addition to "unit" and "package", which are read all at once.
QUERIES = {
    "file": lambda path: portable(read_file(path)),
    "bytes": read_bytes,
    "disk": read_disk,
    "http": get,
    "unfinished": unfinished,
    "uses": uses,
    "run": lambda argv, stdin, user: execute(argv, stdin, user, timeout=60.0),
}
OPERATIONS = {
    "write": write,
    "outdate": outdate,
    "directory": directory,
    "command": command,
    "systemctl": systemctl,
    "await_active": await_active,
    "await_http": await_http,
    "await_command": await_command,
    "apt": apt,
    "in_service": in_service,
    "finish_apt": finish_apt,
    "record": record,
    "hold": hold,
    "remove": lambda path: os.unlink(path) if os.path.lexists(path) else None,
}


# ---- the loop


def serve(channel):
    """Answer messages until the channel closes."""
    lock = threading.Lock()

    def send(*message):
        with lock:
            channel.send(message)

    at_work = set()

    def answer(number, kind, items):
        at_work.add(number)
        try:
            if kind == "facts":
                send(number, "done", facts(items))
                return
            for index, item in enumerate(items):
                arguments = {key: value for key, value in item.items() if key != "op"}
                if item["op"] in ("apt", "hold"):
                    arguments["say"] = lambda text: send(number, "says", text)
                OPERATIONS[item["op"]](**arguments)
                send(number, "applied", index)
            send(number, "done", None)
        except Failed as error:
            send(number, "failed", error.answer)
        except Exception as error:
            send(number, "failed", {"what": f"{type(error).__name__}: {error}", "output": ""})
        finally:
            at_work.discard(number)

    def beat(seconds):
        """Send heartbeats, even while operations run; ends with the connection."""
        with contextlib.suppress(OSError):
            while True:
                time.sleep(seconds)
                send(0, "alive", None)

    for message in channel:
        if message[1] == "beat":
            threading.Thread(target=beat, args=message[2:], daemon=True).start()
            continue
        threading.Thread(target=answer, args=message, daemon=True).start()
    # When idle, release the lock even if a daemon started by a command has inherited it.
    if not at_work:
        for descriptor in LOCKS:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


if __name__ == "__channelexec__":
    serve(channel)  # noqa: F821  (execnet puts it there)
