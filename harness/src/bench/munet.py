# Builds a network with munet: JSON on standard input; says "up MILLISECONDS" and waits for the end of its input.
import argparse, asyncio, json, logging, os, sys, tempfile, time

from munet import base, parser
from munet.args import add_launch_args
from munet.compat import PytestConfig

logging.disable(logging.CRITICAL)

# munet asks `pgrep` for the child of an `nsenter` that it has just started. On few processors that has not forked yet, and
# munet gives up: it is asked once there is a child. One that ends without any is munet's to report.
ask = base.Commander.cmd_raises


def has_ended(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def ask_when_forked(self, cmd, *args, **kwargs):
    asks = isinstance(cmd, list) and os.path.basename(cmd[0]) == "pgrep"
    while True:
        ended = asks and has_ended(cmd[-1])
        try:
            return ask(self, cmd, *args, **kwargs)
        except base.CalledProcessError:
            if not asks or ended:
                raise
            os.sched_yield()


base.Commander.cmd_raises = ask_when_forked
network = json.loads(sys.stdin.readline())
rundir = tempfile.mkdtemp(prefix="munet-")
os.environ["MUNET_RUNDIR"] = rundir
arguments = argparse.ArgumentParser()
add_launch_args(arguments.add_argument)
arguments = arguments.parse_args([])
arguments.rundir = rundir
connections = {node["name"]: [] for node in network["nodes"]}
for a, b in network["links"]:
    for here, there in ((a, b), (b, a)):
        connection = {"to": there["node"], "name": here["interface"], "remote-name": there["interface"]}
        if here["addresses"]:
            connection["ip"] = here["addresses"][0]
        connections[here["node"]].append(connection)
nodes = [{"name": node["name"], "connections": connections[node["name"]]} for node in network["nodes"]]
path = f"{rundir}/munet.yaml"
with open(path, "w") as file:
    json.dump({"version": 1, "topology": {"nodes": nodes}, "kinds": []}, file)


async def main():
    began = time.monotonic()
    config = parser.get_config(path)
    net = await parser.async_build_topology(
        config, rundir=rundir, args=arguments, pytestconfig=PytestConfig(arguments), unshare_inline=False
    )
    for node in network["nodes"]:
        routes = [f"ip route add {to} via {via}" for to, via in node["routes"]]
        if routes:
            net.hosts[node["name"]].cmd_raises("; ".join(routes))
    print(f"up {(time.monotonic() - began) * 1e3}", flush=True)
    sys.stdin.read()


asyncio.run(main())
