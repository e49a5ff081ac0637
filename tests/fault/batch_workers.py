"""Workers of a batch job that are killed, stopped, that crash and that come and go, and a master that is killed: nothing lost, nothing twice."""
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.environ["FM_SOURCE_ROOT"], "tests", "e2e"))
from batch_job import SLOW_MODEL, Job, OperatorJob, Rows, end_of, listening, signalled, start, wait_for, workers_of  # noqa: E402
from tap import FERMATA, fermata, run, test  # noqa: E402

SEED = int(os.environ.get("FM_SEED", "1"))


@test
def workers_killed_at_random_moments():
    for seed in range(SEED, SEED + 3):
        chance = random.Random(seed)
        with Job(count=400, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 12\n") as job:
            (job.path / "in" / "row-0007").write_bytes(b"")
            process = start(job, "--workers", "3")
            kills = 0
            while process.poll() is None and kills < 25:
                time.sleep(chance.uniform(0, 0.3))
                workers = workers_of(process)
                if workers and process.poll() is None:
                    signalled(chance.choice(workers), signal.SIGKILL)
                    kills += 1
            end_of(process, 4)
            job.check_complete()
            print("# seed %d: complete after %d kills" % (seed, kills))


@test
def rows_of_files_while_workers_and_the_master_are_killed():
    model = 'backend: emulated\nmax_batch_size: 8\ninstances: 1\nsettings: {inputs: "x:FP32[-1,2]", outputs: "y:FP32[-1,1]", alpha: 0.2ms, beta: 3ms}\n'
    chance = random.Random(SEED)
    rows = ["id,a,b"] + ["r%d,%s,%d" % (i, "bad" if i % 500 == 3 else i, i) for i in range(5000)]
    files = {"%d.csv" % n: "\n".join(rows[:1] + rows[1 + n * 1250:1251 + n * 1250]) for n in range(4)}
    with Rows(files, given="columns: {x: [a, b]}, id: id", output="{directory: out, passthrough: [b]}", model=model, keys="shard_rows: 170\n") as job:
        resume = []
        for _ in range(3):
            process = start(job, "--workers", "3", *resume)
            resume = ["--resume"]
            for _ in range(8):
                time.sleep(chance.uniform(0, 0.15))
                for pid in workers_of(process)[:1]:
                    signalled(chance.choice(workers_of(process) or [pid]), signal.SIGKILL)
            signalled(process.pid, signal.SIGKILL)
            process.communicate()
        fermata("batch", job.file, "--workers", "2", "--resume", "--quiet", code=4)
        manifest = job.manifest()
        assert manifest["complete"] and manifest["rows_in"] == 5000 and manifest["dead_letters"] == 10, manifest
        lines = job.lines()
        assert sorted(line["id"] for line in lines) == sorted("r%d" % i for i in range(5000) if i % 500 != 3)
        assert all(line["id"] == "r" + line["b"] for line in lines)
        assert sorted(line["id"] for line in job.lines("errors")) == sorted("r%d" % i for i in range(3, 5000, 500))


@test
def a_stopped_worker_loses_what_it_held_and_its_late_write_is_not_seen():
    with Job(count=200, model=SLOW_MODEL, keys="shard_rows: 10\nrows_in_flight: 8\n") as job:
        process = start(job, "--workers", "2", "--json")
        wait_for(lambda: len(workers_of(process)) == 2)
        wait_for(lambda: list((job.out / "stage").glob("part-*")) if (job.out / "stage").exists() else [])
        victim = workers_of(process)[0]
        signalled(victim, signal.SIGSTOP)
        wait_for(lambda: len(job.lines()) == 200)  # the other one has done what it held
        signalled(victim, signal.SIGCONT)
        end_of(process, 0)
        job.check_complete()


@test
def a_row_that_ends_its_process_becomes_a_dead_letter_and_no_other():
    with OperatorJob(60, {21: "this is poison, and that is that", 50: "poison, too"}, "shard_rows: 16\n") as job:
        _, err = fermata("batch", job.file, "--workers", "2", code=4)
        job.check_complete()
        letters = job.lines("errors")
        assert sorted(letter["id"] for letter in letters) == ["row-0021", "row-0050"], letters
        assert all(letter["stage"] == "process" and "signal 6" in letter["message"] for letter in letters), letters
        assert err.count("ended with signal 6") >= 2, err


@test
def a_killed_master_takes_its_workers_along_and_the_job_goes_on():
    with Job(count=1500, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 12\n") as job:
        for _ in range(4):
            process = start(job, "--workers", "2", "--resume")
            wait_for(lambda: len(workers_of(process)) == 2)
            time.sleep(0.4)
            workers = workers_of(process)
            process.kill()
            process.communicate()
            wait_for(lambda: not any(os.path.exists("/proc/%d" % worker) for worker in workers), 20)
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()


@test
def workers_may_join_and_leave_while_the_job_runs():
    with Job(count=400, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 12\n") as job:
        process = start(job, "--workers", "1")
        socket = job.out / ".fermata" / "master.sock"
        wait_for(socket.exists)
        helper = subprocess.Popen([FERMATA, "worker", "--join", "unix:%s" % socket], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        helper.send_signal(signal.SIGTERM)
        _, err = helper.communicate(timeout=60)
        assert helper.returncode == 143, (helper.returncode, err)
        second = subprocess.Popen([FERMATA, "worker", "--join", "unix:%s" % socket], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        end_of(process, 0)
        _, err = second.communicate(timeout=60)
        assert second.returncode == 0, (second.returncode, err)
        job.check_complete()


class Cable:
    """A TCP port that leads to another one, until it is cut."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = port
        self.ends = []
        threading.Thread(target=self.lead, daemon=True).start()

    def lead(self):
        try:
            while True:
                pair = (self.listener.accept()[0], socket.create_connection(("127.0.0.1", self.target)))
                self.ends += pair
                for way in (pair, pair[::-1]):
                    threading.Thread(target=self.carry, args=way, daemon=True).start()
        except OSError:
            pass

    @staticmethod
    def carry(source, target):
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass

    def cut(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in self.ends:
            end.shutdown(socket.SHUT_RDWR)


def open_files(pid):
    try:
        return ["/proc/%d/fd/%s" % (pid, name) for name in os.listdir("/proc/%d/fd" % pid)]
    except FileNotFoundError:
        return []


def certificates(folder):
    """An authority, and a certificate of it for 127.0.0.1 and for a worker."""
    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, cwd=folder)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    for name, alternative in (("master", "IP:127.0.0.1"), ("worker", "DNS:worker")):
        (folder / "extensions").write_text("subjectAltName=" + alternative)
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name)
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions", "-out", name + ".pem")


@test
def workers_of_other_hosts_come_over_tcp_with_a_token():
    with Job(count=300, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 12\n") as job:
        (job.path / "token").write_text("0123456789abcdef0123456789abcdef\n")
        (job.path / "other").write_text("fedcba9876543210fedcba9876543210\n")
        process = start(job, "--workers", "0", "--listen", "127.0.0.1:0", "--token-file", str(job.path / "token"))
        url = listening(process)
        for wrong in ([], ["--token-file", job.path / "other"]):
            _, err = fermata("worker", "--join", url, *wrong, code=3)
            assert "token" in err and err.count("\n") == 1, err
        helpers = [subprocess.Popen([FERMATA, "worker", "--join", url, "--token-file", str(job.path / "token")], stderr=subprocess.PIPE, text=True) for _ in range(2)]
        time.sleep(0.5)
        helpers[0].kill()
        end_of(process, 0)
        _, err = helpers[1].communicate(timeout=60)
        helpers[0].communicate()
        assert helpers[1].returncode == 0, err
        job.check_complete()


@test
def workers_of_other_hosts_outlive_their_master():
    with Job(count=300, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 12\n") as job:
        (job.path / "token").write_text("0123456789abcdef0123456789abcdef\n")
        arguments = ["--workers", "0", "--token-file", str(job.path / "token"), "--resume"]
        process = start(job, *arguments, "--listen", "127.0.0.1:0")
        url = listening(process)
        helper = subprocess.Popen([FERMATA, "worker", "--join", url, "--token-file", str(job.path / "token")], stderr=subprocess.PIPE, text=True)
        wait_for(lambda: (job.out / "stage").exists() and list((job.out / "stage").glob("part-*")))
        process.kill()
        process.communicate()
        again = start(job, *arguments, "--listen", url.replace("grpc://", ""))
        end_of(again, 0)
        _, err = helper.communicate(timeout=60)
        assert helper.returncode == 0, err
        job.check_complete()


@test
def workers_of_other_hosts_hear_that_the_job_has_failed():
    with Job(count=300, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 12\n") as job:
        (job.path / "token").write_text("0123456789abcdef0123456789abcdef\n")
        process = start(job, "--workers", "0", "--token-file", str(job.path / "token"), "--listen", "127.0.0.1:0", "--fault", "after-commit:3:error")
        url = listening(process)
        helper = subprocess.Popen([FERMATA, "worker", "--join", url, "--token-file", str(job.path / "token")], stderr=subprocess.PIPE, text=True)
        end_of(process, 6)
        _, err = helper.communicate(timeout=20)  # and not after two minutes
        assert helper.returncode == 6 and "the job has failed at its master: no space left" in err, (helper.returncode, err)
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()


@test
def a_worker_of_another_host_that_comes_late_leaves_nothing_behind():
    with Job(count=120, model=SLOW_MODEL, keys="shard_rows: 12\nrows_in_flight: 8\n") as job:
        (job.path / "token").write_text("0123456789abcdef0123456789abcdef\n")
        process = start(job, "--token-file", str(job.path / "token"), "--listen", "127.0.0.1:0")
        cable = Cable(int(listening(process).rsplit(":", 1)[1]))
        helper = subprocess.Popen([FERMATA, "worker", "--join", "grpc://127.0.0.1:%d" % cable.port, "--token-file", str(job.path / "token")],
                                  stderr=subprocess.PIPE, text=True)
        wait_for(lambda: [name for name in map(os.path.realpath, open_files(helper.pid)) if "/stage/part-" in name])
        signalled(helper.pid, signal.SIGSTOP)
        cable.cut()
        end_of(process, 0)
        job.check_complete()
        signalled(helper.pid, signal.SIGCONT)
        _, err = helper.communicate(timeout=20)
        assert helper.returncode == 0 and "the job is complete" in err, (helper.returncode, err)
        job.check_complete()


@test
def a_commit_whose_answer_was_lost_is_no_failure_of_the_worker():
    for point in ("after-commit", "published"):
        with Job(count=200, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 12\n") as job:
            (job.path / "token").write_text("0123456789abcdef0123456789abcdef\n")
            arguments = ["--workers", "0", "--token-file", str(job.path / "token"), "--resume"]
            process = start(job, *arguments, "--listen", "127.0.0.1:0", "--fault", point + ":3")
            url = listening(process)
            helper = subprocess.Popen([FERMATA, "worker", "--join", url, "--token-file", str(job.path / "token")], stderr=subprocess.PIPE, text=True)
            end_of(process, -9)
            again = start(job, *arguments, "--listen", url.replace("grpc://", ""))
            end_of(again, 0)
            _, err = helper.communicate(timeout=60)
            assert helper.returncode == 0, err
            job.check_complete()


@test
def workers_of_other_hosts_come_over_tls_with_certificates():
    with Job(count=100, model=SLOW_MODEL, keys="shard_rows: 9\nrows_in_flight: 12\n") as job:
        certificates(job.path)
        at = lambda name: str(job.path / name)  # noqa: E731
        process = start(job, "--workers", "0", "--listen", "127.0.0.1:0", "--tls-cert", at("master.pem"), "--tls-key", at("master.key"), "--tls-client-ca", at("ca.pem"))
        url = listening(process)
        assert url.startswith("grpcs://")
        fermata("worker", "--join", url, "--tls-ca", at("ca.pem"), "--patience", "0.5s", code=6)
        fermata("worker", "--join", url, "--tls-ca", at("ca.pem"), "--tls-cert", at("worker.pem"), "--tls-key", at("worker.key"))
        end_of(process, 0)
        job.check_complete()


@test
def options_that_do_not_fit_are_refused():
    with Job(count=1) as job:
        (job.path / "token").write_text("short\n")
        for words, expected in ((["--listen", "127.0.0.1:0"], "--token-file"), (["--listen", "nonsense", "--token-file", "x"], "HOST:PORT"),
                                (["--token-file", "x"], "--listen"), (["--listen", "127.0.0.1:0", "--token-file", str(job.path / "token")], "16 to 512"),
                                (["--listen", "127.0.0.1:0", "--tls-cert", "x"], "--tls-key"), (["--workers", "257"], "--workers")):
            _, err = fermata("batch", job.file, *words, code=2)
            assert expected in err, err


@test
def a_polite_stop_of_the_job_keeps_what_is_finished():
    with Job(count=300, model=SLOW_MODEL, keys="shard_rows: 50\nrows_in_flight: 12\n") as job:
        process = start(job, "--workers", "2")
        wait_for(lambda: (job.out / "stage").exists() and list((job.out / "stage").glob("part-*")))
        process.send_signal(signal.SIGTERM)
        end_of(process, 143)
        assert 0 < len(job.lines()) < 300
        fermata("batch", job.file, "--resume", "--quiet")
        job.check_complete()


@test
def an_output_with_a_long_path():
    with Job(count=30) as job:
        job.out = job.path / ("long" * 30) / ("name" * 30)
        fermata("batch", job.file, "--quiet", "--output", job.out)
        job.check_complete()


@test
def a_worker_without_a_master_says_so():
    for url, code, words in (("unix:/nonexistent/socket", 6, "/nonexistent/socket"), ("http://localhost", 3, "http://localhost"), ("nonsense", 3, "nonsense")):
        _, err = fermata("worker", "--join", url, "--patience", "0.3s", code=code)
        assert words in err and err.count("\n") == 1, err
    _, err = fermata("worker", code=2)
    assert "--join" in err


@test
def the_result_is_the_same_with_any_number_of_workers():
    results = []
    for workers in ("1", "2", "4"):
        with Job(count=150, keys="rows_in_flight: 16\n") as job:
            (job.path / "in" / "row-0005").write_bytes(b"")
            fermata("batch", job.file, "--quiet", "--workers", workers, code=4)
            job.check_complete()
            results.append((sorted(json.dumps(line) for line in job.lines()), sorted(line["id"] for line in job.lines("errors"))))
    assert results[0] == results[1] == results[2]


run()
