//go:build !linux

package mesh

import "syscall"

func endWithParent(*syscall.SysProcAttr) {}

// watchParent makes sure that the process does not outlive us where the kernel offers nothing.
func watchParent(p *process) error { return watch(p) }
