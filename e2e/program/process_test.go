package program

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary play the parent that dies in TestChildrenEndWithTheParent.
func TestMain(m *testing.M) {
	if how := os.Getenv("PROGRAM_TEST_PARENT"); how != "" {
		playParent(how)
	}
	os.Exit(m.Run())
}

func playParent(how string) {
	dir := os.Getenv("PROGRAM_TEST_DIR")
	cmd := exec.Command("sleep", "600")
	var err error
	if how == "watcher" { // alone, without what the kernel may offer
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err = cmd.Start(); err == nil {
			err = watch(&Process{pid: cmd.Process.Pid, done: make(chan struct{})})
		}
	} else {
		_, err = Start("sleep", cmd, filepath.Join(dir, "out"), filepath.Join(dir, "err"))
	}
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString(strconv.Itoa(cmd.Process.Pid) + "\n")
	select {}
}

// gone waits until no process has that id.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if syscall.Kill(pid, 0) == syscall.ESRCH || isZombie(pid) {
			return
		}
	}
	t.Errorf("process %d is still there", pid)
	syscall.Kill(pid, syscall.SIGKILL)
}

// isZombie reports whether the process has ended and only waits for whoever adopted it.
func isZombie(pid int) bool {
	out, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
}

// A test run that is killed must not leave an Envoy behind.
func TestChildrenEndWithTheParent(t *testing.T) {
	for _, how := range []string{"own", "watcher"} {
		t.Run(how, func(t *testing.T) {
			parent := exec.Command(os.Args[0])
			parent.Env = append(os.Environ(), "PROGRAM_TEST_PARENT="+how, "PROGRAM_TEST_DIR="+t.TempDir())
			out, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			line, _ := bufio.NewReader(out).ReadString('\n')
			parent.Process.Kill()
			parent.Wait()
			child, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				t.Fatalf("the parent said %q", line)
			}
			gone(t, child)
		})
	}
}

func begin(t *testing.T, script string) *Process {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p, err := Start("script", exec.Command("/bin/sh", "-c", script), log, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// Stopping a process ends what it started, and says so when it did not go well.
func TestStop(t *testing.T) {
	p := begin(t, `sleep 600 & echo $!; trap 'exit 0' TERM; wait`)
	var grandchild int
	for deadline := time.Now().Add(10 * time.Second); grandchild == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		grandchild, _ = strconv.Atoi(strings.TrimSpace(tail(p.stdout)))
	}
	if grandchild == 0 {
		t.Fatal("the script did not start")
	}
	// The trap is set after the line is written: until then TERM ends the shell, unclean.
	for deadline := time.Now().Add(10 * time.Second); p.Running() && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err := p.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	gone(t, p.pid)
	p.Stop()
	gone(t, grandchild)
}

func TestStopReports(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"a failure":         {`echo why; exit 3`, "script: ended with exit status 3\n--- script, stderr\nwhy\n"},
		"an end of its own": {`echo bye`, "script: ended by itself\n--- script, stderr\nbye\n"},
	} {
		t.Run(name, func(t *testing.T) {
			p := begin(t, test.script)
			<-p.done
			if err := p.Stop(); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err := p.Stop(); err != nil {
				t.Errorf("the second stop: %v", err)
			}
		})
	}
}

// A process that is held cannot see SIGTERM: it is let go first.
func TestStopOfAHeldProcess(t *testing.T) {
	p := begin(t, `trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
	for deadline := time.Now().Add(10 * time.Second); tail(p.stdout) == "" && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	gone(t, p.pid)
}
