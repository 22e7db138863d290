//go:build !linux

package program

import "syscall"

func endWithParent(*syscall.SysProcAttr) {}

// watchParent makes sure that the process does not outlive us where the kernel offers nothing.
func watchParent(p *Process) error { return watch(p) }
