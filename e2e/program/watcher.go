package program

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// watch starts a shell that waits at the end of a pipe whose other end is ours: when we end,
// however that happens, the pipe closes, and the shell kills the group of p. When p ends
// first, the shell is ended by its id.
func watch(p *Process) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close() // the shell has its own
	cmd := exec.Command("/bin/sh", "-c", `read -r _; kill -s KILL -- "-$1"`, "watcher", strconv.Itoa(p.pid))
	cmd.Stdin = read
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // or Ctrl-C would end it before its time
	if err := cmd.Start(); err != nil {
		write.Close()
		return err
	}
	go func() {
		<-p.done
		cmd.Process.Kill() // before the pipe closes: the id of p's group may soon be another's
		cmd.Wait()
		write.Close()
	}()
	return nil
}
