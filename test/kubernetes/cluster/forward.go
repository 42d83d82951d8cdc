// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster // import "github.com/tapio-io/otelcol-tapio/test/kubernetes/cluster"

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// forward lets the test itself reach a port of the node's network, by a port on loopback.
func (n *Node) forward(t testing.TB, port int) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			outside, err := listener.Accept()
			if err != nil {
				return // the test has ended
			}
			go n.join(outside, port)
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

func (n *Node) join(outside net.Conn, port int) {
	defer outside.Close()
	inside, err := n.dial(port)
	if err != nil {
		return
	}
	defer inside.Close()
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(inside, outside)
		_ = inside.Close()
	})
	_, _ = io.Copy(outside, inside)
	_ = outside.Close()
	copying.Wait()
}

// dial connects from the node's network. The connection can be used by all threads. This thread comes
// back, and must: components that it started would die with it.
func (n *Node) dial(port int) (net.Conn, error) {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("open this thread's network: %w", err)
	}
	defer own.Close()
	connection, err := dialIn("/run/netns/"+n.network, port)
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		panic(fmt.Sprintf("come back from the node's network: %v", back))
	}
	runtime.UnlockOSThread()
	return connection, err
}

func dialIn(network string, port int) (net.Conn, error) {
	namespace, err := os.Open(network)
	if err != nil {
		return nil, fmt.Errorf("open the node's network: %w", err)
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the node's network: %w", err)
	}
	// an address, so that nothing is looked up by another thread
	return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
}
