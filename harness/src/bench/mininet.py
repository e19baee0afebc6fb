# Builds a network with mininet: JSON on standard input; says "up MILLISECONDS" and waits for the end of its input.
import json, sys, time

sys.path.insert(0, "/usr/lib/python3/dist-packages")
from mininet.log import setLogLevel
from mininet.net import Mininet

setLogLevel("error")
network = json.loads(sys.stdin.readline())
began = time.monotonic()
net = Mininet(topo=None, build=False, controller=None, switch=None)
short = {node["name"]: f"n{number}" for number, node in enumerate(network["nodes"])}
hosts = {node["name"]: net.addHost(short[node["name"]], ip=None) for node in network["nodes"]}
addresses = []
count = {}
for a, b in network["links"]:
    names = []
    for end in (a, b):
        number = count[end["node"]] = count.get(end["node"], -1) + 1
        names.append(f"{short[end['node']]}-{number}")
        addresses += [(end["node"], names[-1], address) for address in end["addresses"]]
    net.addLink(hosts[a["node"]], hosts[b["node"]], intfName1=names[0], intfName2=names[1])
net.build()
commands = {node["name"]: [] for node in network["nodes"]}
for node, interface, address in addresses:
    commands[node].append(f"ip addr add {address} dev {interface}")
for node in network["nodes"]:
    commands[node["name"]] += [f"ip route add {to} via {via}" for to, via in node["routes"]]
    hosts[node["name"]].cmd("; ".join(commands[node["name"]]))
print(f"up {(time.monotonic() - began) * 1e3}", flush=True)
sys.stdin.read()
