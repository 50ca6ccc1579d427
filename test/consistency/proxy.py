"""TCP proxies between the nodes, with faults.

One process serves all links.  A link is a listening port of 127.0.0.1 that
leads to the port of whichever node is primary at the time; each standby has
two, one for replication and one for the worker of tcs, so that each can be
disturbed alone.  Commands come through a pipe:

    target PORT     where new connections go; those that exist are cut
    pass            no fault
    delay SECONDS   each piece of data is passed on this much later
    stall           nothing is passed on, connections stay open
    stall_up        nothing from the standby to the primary
    stall_down      nothing from the primary to the standby
    cut             connections are closed, new ones are closed at once

A stalled direction is not read from, so that TCP's own window fills as it does
when a network drops packets; what had been read before is kept and passed on
when the link is healed.
"""
import collections
import ctypes
import heapq
import os
import select
import signal
import socket
import time


def die_with_parent():
    """End this process when its parent ends, however that happens."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() == 1:
        os._exit(1)


class _Pipe:
    """One direction of one connection."""

    def __init__(self, link, source, sink, up):
        self.link, self.source, self.sink, self.up = link, source, sink, up
        self.waiting = collections.deque()  # (when, data)
        self.size = 0

    def stalled(self):
        mode = self.link.mode
        return mode == "stall" or mode == ("stall_up" if self.up else "stall_down")


class _Link:
    def __init__(self, name, listener):
        self.name, self.listener = name, listener
        self.target, self.mode, self.delay = None, "pass", 0.0
        self.pipes = set()


class _Server:
    """The event loop of the proxy process."""

    def __init__(self, commands, links):
        self.commands = commands
        self.links = {name: _Link(name, sock) for name, sock in links.items()}
        self.listeners = {link.listener.fileno(): link for link in self.links.values()}
        self.pipes = {}   # by descriptor of the source
        self.ends = {}    # descriptor -> (socket, other socket, link)
        self.timers = []  # (when, descriptor)
        self.buffer = b""

    def run(self):
        while True:
            reads = [self.commands.fileno(), *self.listeners]
            writes = []
            for fd, pipe in self.pipes.items():
                if not pipe.stalled():
                    if pipe.size < 1 << 20:
                        reads.append(fd)
                    if pipe.waiting and pipe.waiting[0][0] <= time.monotonic():
                        writes.append(pipe.sink.fileno())
            wait = None
            if self.timers:
                wait = max(0.0, self.timers[0][0] - time.monotonic())
            ready, writable, _ = select.select(reads, writes, [], wait)
            while self.timers and self.timers[0][0] <= time.monotonic():
                heapq.heappop(self.timers)
            for fd in ready:
                if fd == self.commands.fileno():
                    self._commands()
                elif fd in self.listeners:
                    self._accept(self.listeners[fd])
                elif fd in self.pipes:
                    self._read(self.pipes[fd])
            for pipe in list(self.pipes.values()):
                self._write(pipe)

    def _commands(self):
        data = self.commands.recv(65536)
        if not data:
            os._exit(0)
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            name, command, *args = line.decode().split()
            link = self.links[name]
            if command == "target":
                link.target = int(args[0])
                self._cut(link)
            else:
                link.mode = command
                link.delay = float(args[0]) if command == "delay" else 0.0
                if command == "cut":
                    self._cut(link)
            self.commands.sendall(b".")

    def _accept(self, link):
        try:
            near = link.listener.accept()[0]
        except OSError:
            return
        if link.mode == "cut" or not link.target:
            near.close()
            return
        far = socket.socket()
        try:
            far.connect(("127.0.0.1", link.target))
        except OSError:
            near.close()
            far.close()
            return
        for sock, other, up in ((near, far, True), (far, near, False)):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pipe = _Pipe(link, sock, other, up)
            self.pipes[sock.fileno()] = pipe
            link.pipes.add(pipe)

    def _read(self, pipe):
        try:
            data = pipe.source.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(pipe)
            return
        when = time.monotonic() + pipe.link.delay
        pipe.waiting.append((when, data))
        pipe.size += len(data)
        if pipe.link.delay:
            heapq.heappush(self.timers, (when, pipe.source.fileno()))

    def _write(self, pipe):
        while pipe.waiting and not pipe.stalled() and pipe.waiting[0][0] <= time.monotonic():
            when, data = pipe.waiting.popleft()
            try:
                sent = pipe.sink.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._close(pipe)
                return
            pipe.size -= sent
            if sent < len(data):
                pipe.waiting.appendleft((when, data[sent:]))
                return

    def _close(self, pipe):
        for sock in (pipe.source, pipe.sink):
            other = self.pipes.pop(sock.fileno(), None)
            if other:
                other.link.pipes.discard(other)
            sock.close()

    def _cut(self, link):
        for pipe in list(link.pipes):
            if pipe.source.fileno() >= 0:
                self._close(pipe)


class Proxies:
    """The proxy process, seen from the program that controls it."""

    def __init__(self, context, names):
        listeners = {}
        self.ports = {}
        for name in names:
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            sock.listen(16)
            listeners[name] = sock
            self.ports[name] = sock.getsockname()[1]
        self._control, theirs = socket.socketpair()
        self.process = context.Process(target=self._serve, args=(theirs, listeners), daemon=True)
        self.process.start()
        theirs.close()
        for sock in listeners.values():
            sock.close()

    def _serve(self, commands, listeners):
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._control.close()
        _Server(commands, listeners).run()

    def tell(self, name, *command):
        """Returns when the command is in force."""
        self._control.sendall((" ".join(map(str, (name, *command))) + "\n").encode())
        if not self._control.recv(1):
            raise RuntimeError("the proxy process has ended")

    def stop(self):
        self._control.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
