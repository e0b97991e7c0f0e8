"""apiserver - test-apiserver as a process, for the scripts beside this file.

The kernel chooses the ports (so no two servers fight for one) and the server prints them when it listens. Starting may take a
minute on a loaded machine; nothing here depends on how long it takes.
"""
import http.client, select, signal, subprocess, time

WAIT_S = 60


class Process:
    def __init__(self, binary, folder, args=(), log=subprocess.DEVNULL):
        self.command, self.log = [binary, folder, '0', '0', *args], log
        self.process = None
        self.start()

    def start(self):
        """Ready when it returns; after stop() it starts again, on other ports."""
        end = time.monotonic() + WAIT_S
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.log)
        line = self.process.stdout.readline() if select.select([self.process.stdout], [], [], WAIT_S)[0] else b''
        if not line:
            self.fail('does not listen')
        self.ports = [int(p) for p in line.split()]
        self.plain, self.tls = self.ports
        while self.readyz() != 200:
            if self.process.poll() is not None or time.monotonic() > end:
                self.fail('does not become ready')
            time.sleep(0.05)

    def readyz(self):
        c = http.client.HTTPConnection('127.0.0.1', self.plain, timeout=WAIT_S)
        try:
            c.request('GET', '/readyz')
            return c.getresponse().status
        except OSError:
            return 0
        finally:
            c.close()

    def fail(self, what):
        ended = self.process.poll()
        self.kill()
        raise SystemExit(f'test-apiserver {what}' + (f': it ended with {ended}' if ended is not None else ''))

    def stop(self):
        """Its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=WAIT_S)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
