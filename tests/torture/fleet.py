"""What an ingestd has and what an exporter shows, side by side."""
import re
import time
from types import SimpleNamespace

import requests

from harness import DEADLINE, wait_until

CLIENT_FAMILIES = ("bytes_sent", "bytes_received", "packets_sent", "packets_received", "connection_uptime_seconds")
HEADEND_FAMILIES = ("active_connections", "bandwidth_in_bytes", "bandwidth_out_bytes", "cpu_usage_percent",
                    "memory_usage_bytes")
SERIES = re.compile(r'^tobogganing_(client|headend)_(\w+)\{(?:client|headend)_id="([^"]*)"[^\n]*\} (\S+)$', re.MULTILINE)


def health(cluster, daemon=None):
    pb = cluster.pb.health
    with cluster.rpc(url=daemon and daemon.url) as rpc:
        return rpc.call("/tobogganing.v1.Health/Check", pb.HealthCheckRequest(), pb.HealthCheckResponse)


def snapshot(cluster, daemon=None, max_rows=5000):
    """An ingestd's whole fleet table, through Bus.Snapshot."""
    pb = cluster.pb.bus
    clients, headends, cursor, epoch = {}, {}, 0, None
    with cluster.rpc(bearer=cluster.cluster_token, url=daemon and daemon.url) as rpc:
        while True:
            page = rpc.call("/tobogganing.v1.Bus/Snapshot", pb.SnapshotRequest(cursor=cursor, max_rows=max_rows),
                            pb.SnapshotResponse)
            assert epoch in (None, page.epoch), "the epoch changed: take the snapshot at rest"
            epoch = page.epoch
            clients.update((row.client_id, row) for row in page.clients)
            headends.update((row.headend_id, row) for row in page.headends)
            if not page.next_cursor:
                return SimpleNamespace(clients=clients, headends=headends, manager=page.manager, instance=page.instance)
            cursor = page.next_cursor


def last_values(fleet):
    """{client id: bytes_sent} of those that ever reported it."""
    return {name: row.bytes_sent for name, row in fleet.clients.items() if row.present & 1}


def expected(fleet):
    """{(kind, family, id): value}: what an exporter has to show of such a fleet."""
    result = {}
    for name, row in fleet.clients.items():
        values = (row.bytes_sent, row.bytes_received, row.packets_sent, row.packets_received,
                  row.connection_uptime_ms / 1000)
        result["client", "last_check_in_timestamp", name] = row.last_check_in_unix_ms / 1000
        result.update((("client", family, name), value) for bit, (family, value) in enumerate(zip(CLIENT_FAMILIES, values))
                      if row.present >> bit & 1)
    for name, row in fleet.headends.items():
        values = (row.active_connections, row.bandwidth_in, row.bandwidth_out, row.cpu_usage, row.memory_usage)
        result["headend", "last_check_in_timestamp", name] = row.last_check_in_unix_ms / 1000
        result.update((("headend", family, name), value) for bit, (family, value) in enumerate(zip(HEADEND_FAMILIES, values))
                      if row.present >> bit & 1)
    return result


def shown(cluster, exporter):
    """{(kind, family, id): value} of an exporter's exposition; None when it has none to show."""
    try:
        answer = cluster.get_metrics(exporter.url)
    except requests.RequestException:
        return None
    if answer.status_code != 200:
        return None
    result = {}
    for kind, family, name, value in SERIES.findall(answer.text):
        assert (kind, family, name) not in result, f"{exporter.name} shows {family} of {name} twice"
        result[kind, family, name] = float(value)
    return result


def differences(wanted, seen):
    """The first few differences, as text; empty when there is none. Times are compared to the millisecond."""
    if seen is None:
        return ["there is no exposition"]
    found = []
    for key in wanted.keys() | seen.keys():
        a, b = wanted.get(key), seen.get(key)
        if a is None or b is None or (abs(a - b) >= 0.0005 if "timestamp" in key[1] or "uptime" in key[1] else float(a) != b):
            found.append(f"{key[1]} of {key[2]} is {b}, not {a}")
            if len(found) == 5:
                break
    return found


def wait_shown(cluster, exporter, wanted, timeout=DEADLINE):
    """Waits until an exporter shows exactly what is wanted; returns the seconds that took."""
    started, found = time.monotonic(), []

    def same():
        found[:] = differences(wanted, shown(cluster, exporter))
        return not found
    try:
        wait_until(same, timeout=timeout)
    except AssertionError:
        raise AssertionError(f"after {timeout:g} s {exporter.name} is not as the fleet: {found}") from None
    return time.monotonic() - started


def manager_total(cluster, exporter, family, **labels):
    return cluster.scrape(exporter.url).total(f"tobogganing_manager_{family}", **labels)
