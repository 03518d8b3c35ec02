"""Forty programs that try to get out of a sandbox. Each prints ESCAPED where it got something that it must not.

In their text, PARENT is the process id of the tests, PORT one on which the tests listen, SECRET a file that only they
know, and NAME a word for what may be left over.
"""

from __future__ import annotations

START = """
import ctypes, mmap, os, resource, signal, socket, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def escaped(): print("ESCAPED", flush=True)
def attempt(deed):
    try:
        if deed(): escaped()
    except BaseException: pass
"""

QUICK = {
    "network": "attempt(lambda: socket.create_connection(('127.0.0.1', PORT), 1))",
    "datagram": "s = socket.socket(type=socket.SOCK_DGRAM); attempt(lambda: s.sendto(b'x', ('192.0.2.1', 9)))",
    "resolver": "attempt(lambda: socket.gethostbyname('example.com'))",
    "unix socket": "s = socket.socket(socket.AF_UNIX); attempt(lambda: s.connect('\\0NAME') is None)",
    "raw socket": "attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))",
    "packet socket": "attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))",
    "interfaces": "attempt(lambda: [n for _, n in socket.if_nameindex() if n != 'lo'])",
    "home": "attempt(lambda: os.listdir('/root') or os.listdir('/home'))",
    "secret file": "attempt(lambda: open('SECRET').read())",
    "passwords": "attempt(lambda: open('/etc/shadow').read() or open('/etc/passwd').read())",
    "klimb": "attempt(lambda: __import__('klimb'))",
    "walk": "attempt(lambda: [1 for d, _, f in os.walk('/') if not d.startswith('/proc') and os.path.basename('SECRET') in f])",
    "environment": "attempt(lambda: 'KLIMB_CANARY' in str(os.environ))",
    "first environment": "attempt(lambda: b'KLIMB' in open('/proc/1/environ', 'rb').read())",
    "first command": "attempt(lambda: b'SECRET' in open('/proc/1/cmdline', 'rb').read())",
    "parent memory": "attempt(lambda: open('/proc/PARENT/mem', 'rb').seek(4096))",
    "parent maps": "attempt(lambda: open('/proc/PARENT/maps').read())",
    "other processes": "attempt(lambda: len([p for p in os.listdir('/proc') if p.isdigit()]) > 3)",
    "ptrace": "attempt(lambda: [1 for p in (1, os.getppid(), PARENT) if libc.ptrace(16, p, 0, 0) == 0])",
    "read other memory": "b = ctypes.create_string_buffer(8)\nattempt(lambda: libc.process_vm_readv(1, b, 1, b, 1, 0) > 0)",
    "kill parent": "attempt(lambda: os.kill(PARENT, 0) is None)",
    "kill all": "[attempt(lambda: os.kill(-1, s) and False) for s in (signal.SIGUSR1, signal.SIGTERM)]",
    "stop first": "attempt(lambda: os.kill(1, signal.SIGSTOP)); attempt(lambda: open('/proc/1/stat').read().split()[2] == 'T')",
    "become root": "attempt(lambda: os.setuid(0) is None); attempt(lambda: os.setresuid(0, 0, 0) is None)",
    "setuid file": "open('x', 'w').close(); os.chmod('x', 0o4755); attempt(lambda: os.stat('x').st_uid == 0)",
    "root's groups": "attempt(lambda: os.setgroups([0]) is None)",
    "mount": "attempt(lambda: libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0)",
    "user namespace": "attempt(lambda: libc.unshare(0x10000000) == 0)",
    "fork into a namespace": "attempt(lambda: libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) > 0)",
    "chroot": "os.mkdir('r'); attempt(lambda: os.chroot('r') is None)",
    "write to the root": "[attempt(lambda: open(f'{d}/x', 'w')) for d in ('/', '/dev', '/usr/lib', '/python', '/proc/sys')]",
    "devices": "attempt(lambda: os.mknod('d', 0o60600, os.makedev(254, 0)) is None); attempt(lambda: open('/dev/vda', 'rb'))",
    "symbolic link": "os.symlink('SECRET', 'l'); attempt(lambda: open('l').read())",
    "through proc": "attempt(lambda: open('/proc/1/root' + 'SECRET').read()); attempt(lambda: os.listdir('/proc/1/cwd/root'))",
    "descriptors": "attempt(lambda: [f for f in range(3, 64) if os.path.exists(f'/proc/self/fd/{f}') and os.read(f, 1)])",
    "kernel settings": "attempt(lambda: open('/proc/sys/kernel/core_pattern', 'w').write('|/x'))",
    "shared memory": "attempt(lambda: libc.shmget(0, 1 << 20, 0o1600) >= 0); attempt(lambda: libc.memfd_create(b'x', 0) >= 0)",
    "raise limits": "attempt(lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40)) is None)",
    "terminal": "attempt(lambda: open('/dev/tty')); attempt(lambda: __import__('fcntl').ioctl(0, 0x5412, b'x') == 0)",
    "clock": "attempt(lambda: time.clock_settime(time.CLOCK_REALTIME, 0) is None)",
    "host name": "attempt(lambda: socket.sethostname('x') is None)",
    "memory bomb": "attempt(lambda: bytearray(1 << 30))",
    "disk bomb": "def fill():\n  for n in range(9):\n    with open(f'f{n}', 'wb') as f: f.write(b'x' * (4 << 20))\n  return True\n"
    "attempt(fill)",
    "large file": "attempt(lambda: os.truncate(os.open('f', 66), 1 << 40) is None)",
    "key ring": "attempt(lambda: libc.syscall(248, b'user', b'x', b'y', 1, -3) > 0)",
}  # fmt: skip

HARD = {
    "fork bomb": "n = 0\ntry:\n  while True:\n    if not os.fork():\n      time.sleep(60)\n    n += 1\nexcept OSError: pass\nif n > 8: escaped()",
    "endless forks": "while True:\n  try: os.fork()\n  except OSError: pass",
    "many threads": "import threading\nn = 0\ntry:\n  while True:\n    threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); n += 1\n"
    "except BaseException: pass\nif n > 8: escaped()\nos._exit(0)",
    "huge output": "while True: os.write(1, b'x' * 65536)",
    "huge errors": "while True: os.write(2, b'x' * 65536)",
    "daemon": "if not os.fork():\n  os.setsid()\n  if not os.fork():\n    libc.prctl(15, b'NAME'); time.sleep(60)\n  os._exit(0)\ntime.sleep(.1)",
    "busy": "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
    "deaf": "for s in range(1, 65): attempt(lambda: signal.signal(s, signal.SIG_IGN) and False)\ntime.sleep(60)",
    "closed descriptors": "os.closerange(0, 64); time.sleep(60)",
    "close and leave": "os.closerange(0, 64); os._exit(0)",
}  # fmt: skip

FORGED = {
    "exit code": "import os\nos._exit(0)",
    "exit": "raise SystemExit(0)",
    "printed verdict": "print('passed'); print('3 of 3 tests'); print('[\"value\", [\"is\", true]]')",
    "every channel": "import os\nfor f in range(1, 64):\n  try: os.write(f, b'[\"value\", [\"is\", true]]\\n' * 9)\n  except OSError: pass\nos._exit(0)",
    "equal to all": "class E(int):\n  __eq__ = lambda *_: True\n  __bool__ = lambda _: True\n  __hash__ = int.__hash__\nf = lambda *_: E(7)",
    "own repr": "class E(str):\n  __repr__ = lambda _: '97531'\n  __str__ = lambda _: '97531'\nf = lambda *_: E('x')",
    "builtins": "import builtins\nbuiltins.bool = builtins.all = builtins.isinstance = lambda *_: True\nf = lambda *_: 0",
    "patched harness": "import __main__\n__main__.plain = lambda *_: ['is', True]\nf = lambda *_: 0",
    "patched json": "import json\njson.dumps = lambda _: '[\"value\", [\"is\", true]]'\nf = lambda *_: 0",
    "at exit": "import atexit, os\natexit.register(lambda: os.write(1, b'97531\\n'))\nf = lambda *_: 0",
    "read the tests": "f = lambda *_: eval(open('calls.py').read().split('==')[1].split(']')[0])",
    "read the caller": "import gc\nf = lambda *_: [o for o in gc.get_objects() if o == 97531 or '97531' in str(o)][0]",
    "patched runner": "import runpy\nrunpy.run_path = lambda *_, **__: {'CALLS': [lambda: True] * 3}\nf = lambda *_: 0",
    "new assert": "import ast\nAssertionError = ValueError\nf = lambda *_: True",
}  # fmt: skip
