package program

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are taken from below those that Linux (32768 and up) and macOS (49152 and up) give
// to outgoing connections: one of these can sit on a port between our choice and the start
// of the server, or while a server is being restarted.
const (
	firstPort = 20000
	ports     = 12000
)

// reserved holds on to the ports that were given away until this process ends: the UDP
// socket of the same number is what another process of these tests, which runs beside,
// finds taken. It must not get the same port, because Envoy would not notice: two Envoys
// can listen on one port, and each gets half of the connections.
var reserved struct {
	sync.Mutex
	sockets []net.PacketConn
}

// FreeAddress returns an address on the loopback that nobody listens on and that no other
// process of these tests is given. Somebody else may take it all the same: whoever starts a
// server on it tries again with another.
func FreeAddress() (string, error) {
	reserved.Lock()
	defer reserved.Unlock()
	for range 1000 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.N(ports)))
		socket, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			socket.Close()
			continue
		}
		listener.Close()
		reserved.sockets = append(reserved.sockets, socket)
		return address, nil
	}
	return "", fmt.Errorf("no free port on the loopback between %d and %d", firstPort, firstPort+ports)
}
