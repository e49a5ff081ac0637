"""A second reader of recordings, written from docs/record.md alone: what the document says must be enough to read one."""
import struct

MAGIC = b"\x89FMREC\r\n"
MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1
OPTIONS = ["", "models_max", "accelerators_max", "type_count", "requests_max", "batch_max", "control_ns", "data_ns", "result_ns", "attempts_max",
           "learn", "admit", "events_max", "action_capacity", "request_capacity", "has_actions"]
EVENTS = ["tick", "request", "cancel", "up", "down", "slow", "done", "failed", "model_set", "model_removed", "drain"]
REASONS = ["infeasible", "late", "sacrificed", "rejected", "cancelled", "model_gone", "failed", "outranked"]
NEVER = MASK64


def fnv(data, value=0xCBF29CE484222325):
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & MASK64
    return value


class Contents:
    def __init__(self, data):
        self.data, self.at = data, 0

    def byte(self):
        self.at += 1
        return self.data[self.at - 1]

    def number(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def change(self, before, mask=MASK64):
        value = self.number()
        return before + (value >> 1 if value & 1 == 0 else -(value + 1 >> 1)) & mask


def blocks(data, check=True):
    """Yields (kind, contents), after checking the hash of each block."""
    assert data[:8] == MAGIC and struct.unpack("<I", data[8:12]) == (1,)
    at, running = 12, fnv(data[:12]) if check else 0
    while at < len(data):
        kind, length = struct.unpack("<cI", data[at:at + 5])
        end = at + 5 + length
        if check:
            running = fnv(data[at:end], running)
            assert struct.unpack("<Q", data[end:end + 8])[0] == running, "the block at byte %d" % at
            running = fnv(data[end:end + 8], running)
        yield kind, Contents(data[at + 5:end])
        at = end + 8


class Reader:
    """`header` is the first block; iterating gives the steps."""

    def __init__(self, data, check=True):
        self.blocks = blocks(data, check)
        kind, contents = next(self.blocks)
        assert kind == b"H"
        self.header = {name: 0 for name in OPTIONS[1:]}
        length = contents.number()
        self.header["policy"] = bytes(contents.byte() for _ in range(length)).decode()
        while contents.at < len(contents.data):
            name = OPTIONS[contents.number()]
            self.header[name] = contents.number()
        self.now, self.wake, self.wake_change, self.ended, self.started = 0, NEVER, 0, 0, 0
        self.model = self.slot = self.action_model = self.action_slot = 0
        self.rows, self.profiles, self.profile_next = [(0, 0)] * 256, [None] * 8, 0

    def __iter__(self):
        steps = requests = 0
        for kind, contents in self.blocks:
            if kind == b"E":
                assert (contents.number(), contents.number()) == (steps, requests)
                return
            assert kind == b"S" and contents.data
            while contents.at < len(contents.data):
                step = self.step(contents)
                steps += 1
                requests += sum(event["kind"] == "request" for event in step["events"])
                yield step
        raise AssertionError("no end mark")

    def step(self, contents):
        flags = contents.byte()
        if flags & 1:
            self.now = self.now + contents.number() & MASK64
        if flags & 2:
            self.now = self.now - contents.number() & MASK64
        rest = contents.number() if flags & 128 else 0
        step = {"now": self.now, "out_of_memory": rest & 1, "events": [], "actions": [], "wake": NEVER}
        more = flags & 32
        while more:
            tag = contents.byte()
            step["events"].append(self.event(contents, tag))
            more = tag & 128
        step["taken"] = len(step["events"]) - (rest >> 1)
        more = flags & 64
        while more:
            tag = contents.byte()
            step["actions"].append(self.action(contents, tag))
            more = tag & 128
        if self.header["has_actions"]:
            step["wake"] = self.wake_time(contents, flags >> 2 & 7)
        return step

    def wake_time(self, contents, code):
        before = self.wake
        if code in (2, 3):
            self.wake = self.now + (contents.number() if code == 2 else -contents.number()) & MASK64
            self.wake_change = self.wake_change if before == NEVER else self.wake - before
        elif code != 1:
            self.wake = {0: NEVER, 4: before + self.wake_change & MASK64}[code]
        return self.wake

    def event(self, contents, tag):
        kind = EVENTS[tag & 15]
        event = {"kind": kind}
        if kind == "request":
            self.slot = contents.change(self.slot, MASK32)
            self.model = contents.number() if tag & 16 else self.model
            budget, priority = self.rows[self.model % 256]
            budget = contents.change(0) if tag & 32 else budget
            priority = contents.number() if tag & 64 else priority
            self.rows[self.model % 256] = budget, priority
            event.update(request=self.slot, model=self.model, deadline=self.now + budget & MASK64, priority=priority)
        elif kind in ("cancel", "model_removed", "down"):
            event["id"] = contents.number()
        elif kind in ("up", "slow"):
            event.update(id=contents.number(), value=contents.number())
        elif kind in ("done", "failed"):
            event["accelerator"] = contents.number()
            event["batch"] = self.ended = contents.change(self.ended)
        elif kind == "model_set":
            event.update(self.model_set(contents))
        return event

    def model_set(self, contents):
        model = {"model": contents.number(), "slo": contents.number(), "goal": contents.byte(), "statistic": contents.byte(),
                 "batch_max": contents.number(), "queue_delay": contents.number()}
        model["preferred"] = [contents.number() for _ in range(contents.number())]
        model["profiles"] = [self.profile(contents) for _ in range(8)]
        setting = contents.byte()
        if setting == 1:
            model["policy"] = bytes(contents.byte() for _ in range(contents.number())).decode()
            setting = contents.byte()
        assert setting == 0
        return model

    def profile(self, contents):
        place = contents.number()
        if place == 0:
            return None
        if place < 9:
            return self.profiles[place - 1]
        points, batch = [], 0
        for _ in range(contents.number()):
            batch += contents.number()
            samples, mean = contents.number(), contents.number()
            p50 = contents.change(mean)
            p90 = contents.change(p50)
            points.append((batch, samples, mean, p50, p90, contents.change(p90)))
        self.profiles[self.profile_next] = points
        self.profile_next = (self.profile_next + 1) % 8
        return points

    def action(self, contents, tag):
        kind = ["start", "drop", "preempt"][tag & 3]
        action = {"kind": kind}
        if kind == "drop":
            action["reason"] = REASONS[tag >> 2 & 15]
            action["model"] = contents.number()
            action["request"] = self.action_slot = contents.change(self.action_slot, MASK32)
        elif kind == "preempt":
            action.update(model=contents.number(), accelerator=contents.number(), batch=contents.change(self.started))
        else:
            action["model"] = self.action_model = contents.number() if tag & 16 else self.action_model
            action["accelerator"] = contents.number()
            action["batch"] = self.started = contents.change(self.started) if tag & 4 else self.started + 1
            action["start"] = contents.change(self.now) if tag & 8 else self.now
            action["expected"] = contents.change(action["start"])
            action["requests"] = []
            for _ in range(contents.number()):
                self.action_slot = contents.change(self.action_slot, MASK32)
                action["requests"].append(self.action_slot)
        return action
