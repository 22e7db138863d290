package program

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Process is a program that runs here, in a process group of its own so that whatever
// it starts ends with it, and by that group's id so that nothing else does. What it writes
// goes into files: a pipe would stop it as soon as nobody reads.
type Process struct {
	name           string
	stdout, stderr string // paths of its output
	pid            int

	done chan struct{} // closed when it has ended
	err  error         // how, once done is closed

	stopping sync.Once
}

// grace is how long a process that was told to stop may take.
const grace = 10 * time.Second

// Start runs cmd. Its output is appended to the two files, which may be one.
func Start(name string, cmd *exec.Cmd, stdout, stderr string) (*Process, error) {
	p := &Process{name: name, stdout: stdout, stderr: stderr, done: make(chan struct{})}
	open := func(path string) (*os.File, error) {
		return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	out, err := open(stdout)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	errs, err := open(stderr)
	if err != nil {
		return nil, err
	}
	defer errs.Close()
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)

	started := make(chan error, 1)
	go func() {
		// Linux tells a child that its parent died when the parent's *thread* ends, and the
		// runtime ends threads as it pleases. A locked one lives as long as this goroutine.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		// Whatever it may have started. Now, because the id may be another's later.
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.pid = cmd.Process.Pid
	if err := watchParent(p); err != nil {
		p.Kill()
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// Pid returns the process' id, which may be another's once it has ended.
func (p *Process) Pid() int { return p.pid }

// Await waits until ready says yes, or the process ends, or too long has passed.
func (p *Process) Await(ctx context.Context, most time.Duration, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-p.done:
			return fmt.Errorf("%s %s before it was ready\n%s", p.name, p.Ended(), p.Log())
		case <-ctx.Done():
			return fmt.Errorf("%s did not get ready: %w\n%s", p.name, ctx.Err(), p.Log())
		case <-tick.C:
		}
	}
	return nil
}

// Signal sends sig to the process, or nothing if it has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%s: %v: %w", p.name, sig, err)
	}
	return nil
}

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stop asks the process to end, kills it when it does not, and returns when it has ended. A
// process that had to be killed, or that ended with an exit code other than 0, is an error.
func (p *Process) Stop() (err error) {
	p.stopping.Do(func() {
		wasRunning := p.Running()
		p.Signal(syscall.SIGTERM)
		p.Signal(syscall.SIGCONT) // it may be held by SIGSTOP
		select {
		case <-p.done:
		case <-time.After(grace):
			p.Kill()
			err = fmt.Errorf("%s did not end within %v of SIGTERM and was killed\n%s", p.name, grace, p.Log())
			return
		}
		if !wasRunning || p.err != nil {
			err = fmt.Errorf("%s: %s\n%s", p.name, p.Ended(), p.Log())
		}
	})
	return err
}

// Kill ends the process at once, as a crash would.
func (p *Process) Kill() {
	p.stopping.Do(func() {})
	if p.Running() {
		syscall.Kill(-p.pid, syscall.SIGKILL)
	}
	<-p.done
}

// Ended says how the process ended.
func (p *Process) Ended() string {
	<-p.done
	if p.err != nil {
		return "ended with " + p.err.Error()
	}
	return "ended by itself"
}

// Log returns the end of what the process wrote, for people to read.
func (p *Process) Log() string {
	var b strings.Builder
	for i, path := range []string{p.stderr, p.stdout} {
		if i == 1 && path == p.stderr {
			break
		}
		fmt.Fprintf(&b, "--- %s, %s\n%s", p.name, [...]string{"stderr", "stdout"}[i], tail(path))
	}
	return b.String()
}

// tail returns the last lines of a file.
func tail(path string) string {
	const most = 16 << 10
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error() + "\n"
	}
	if len(text) > most {
		text = text[len(text)-most:]
		if _, after, found := bytes.Cut(text, []byte("\n")); found {
			text = after
		}
	}
	return string(text)
}
