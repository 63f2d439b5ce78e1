"""A real SLURM in a folder: munge, a controller and two nodes, for as long as one command runs.

    python tests/cluster/slurm.py COMMAND [ARGUMENT …]

It takes root and Debian's packages ``slurm-wlm`` and ``munge``, and writes nothing outside its
folder. All daemons and jobs live in a process namespace of their own, whose first process ends when
the one that asked for it closes a pipe or dies: the kernel then ends the others, however many there
are.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "unshare")
# Processes and mounts of its own; all of them end with the first process.
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
NODES = 2
CPUS = 4  # of a node; more than it has, so that jobs run beside each other
MEMORY = 8000  # MB of a node
START_TIMEOUT = 60.0  # seconds

CONFIGURATION = """\
ClusterName=midframe
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldParameters=enable_configless
# Nodes that do not exist: what they have is believed.
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
# Jobs share a node by cores, memory and GPUs.
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
# A job above its memory is ended, noticed once a second.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
# A job past its time gets SIGTERM, and SIGKILL this many seconds later.
KillWait=5
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=1
MinJobAge=3600
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus}"
    " RealMemory={memory} Gres=gpu:1 State=UNKNOWN"
)


def missing() -> str | None:
    """Why no cluster can be started here; ``None``: one can."""
    if os.geteuid() != 0:
        return "starting SLURM takes root"
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"{', '.join(lacking)} missing: apt-get install slurm-wlm munge"
    tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True, timeout=20)
    return f"no namespace of processes: {tried.stderr.strip()}" if tried.returncode else None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def configure(folder: Path) -> None:
    """Write what the daemons read."""
    controller_port, *ports = free_ports(1 + NODES)
    host = socket.gethostname()
    nodes = [
        NODE.format(name=f"node{number}", host=host, port=port, cpus=CPUS, memory=MEMORY)
        for number, port in enumerate(ports, 1)
    ]
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=host, folder=folder, controller_port=controller_port, nodes="\n".join(nodes)
        )
    )
    # One device each, which nobody opens.
    (folder / "gres.conf").write_text("Name=gpu Count=1 File=/dev/null\n")
    # Read because of the plugins' defaults; nothing here uses control groups.
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\nConstrainRAMSpace=no\n")


def serve(folder: Path) -> None:
    """Start all daemons, print ``ready``, and wait until standard input is closed."""
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    # Snakemake's jobs forget the environment of their batch job. Seen in this namespace only.
    subprocess.run(["mount", "--bind", str(folder), "/etc/slurm"], check=True)
    subprocess.run(["mungekey", "--create", "--keyfile", str(folder / "munge.key")], check=True)
    munged = [
        *("munged", "--foreground", "--force", "--num-threads", "2"),
        *("--key-file", str(folder / "munge.key"), "--socket", str(folder / "munge.socket")),
        *("--pid-file", str(folder / "munged.pid"), "--seed-file", str(folder / "munged.seed")),
    ]
    commands = {
        "munged": munged,
        "slurmctld": ["slurmctld", "-D", "-c"],
        **{f"node{n}": ["slurmd", "-D", "-N", f"node{n}"] for n in range(1, NODES + 1)},
    }
    names = {}
    for name, command in commands.items():
        with open(folder / f"{name}.out", "wb") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        names[process.pid] = name
        if name == "munged":
            wait_for(lambda: (folder / "munge.socket").exists(), "munged does not start")
    states = ["sinfo", "--noheader", "--Node", "--format", "%T"]

    def idle() -> bool:
        asked = subprocess.run(states, env=environment, capture_output=True, text=True)
        return asked.stdout.split() == NODES * ["idle"]

    wait_for(idle, "the nodes do not come up")
    print("ready", flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
    # The first process of a namespace inherits all orphans.
    while True:
        ended, _ = os.wait()
        if ended in names:
            sys.exit(f"{names[ended]} ended; see {folder}")


def wait_for(found: Callable[[], Found], otherwise: str, timeout: float = START_TIMEOUT) -> Found:
    """Wait until something is found; returns it."""
    deadline = time.monotonic() + timeout
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.2)
    return answer


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A cluster in an empty folder; yields the environment with which its commands work."""
    configure(folder)
    process = subprocess.Popen(
        [*NAMESPACE, sys.executable, __file__, "--serve", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            logs = [f"{log.name}: {log.read_text()[-2000:]}" for log in folder.glob("*.out")]
            raise RuntimeError("SLURM does not start:\n" + "\n".join(logs))
        yield {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(30)


def main(command: list[str]) -> int:
    """Run a command with a cluster of its own."""
    if command[:1] == ["--serve"]:
        serve(Path(command[1]))
    if (why := missing()) is not None:
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder, slurm(Path(folder)) as environment:
        return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
