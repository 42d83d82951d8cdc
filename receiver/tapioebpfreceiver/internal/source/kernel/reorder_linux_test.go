// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64)

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// place is a network namespace whose only way out is a device that packets are read from and written to.
type place struct {
	address string
	device  *os.File
	work    chan func()
}

// newPlace is on a thread of its own, that does all that must be done in the namespace.
func newPlace(address string) (*place, error) {
	p := &place{address: address, work: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		made <- p.make()
		for f := range p.work {
			f()
		}
	}()
	return p, <-made
}

func (p *place) make() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	device, err := unix.NewIfreq("way0")
	if err != nil {
		return err
	}
	device.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, device); err != nil {
		return fmt.Errorf("make a device: %w", err)
	}
	p.device = os.NewFile(uintptr(fd), "way0")
	return p.configure()
}

func (p *place) configure() error {
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(control)
	set := func(request uint, fill func(*unix.Ifreq) error) error {
		device, err := unix.NewIfreq("way0")
		if err != nil {
			return err
		}
		return errors.Join(fill(device), unix.IoctlIfreq(control, request, device))
	}
	return errors.Join(
		set(unix.SIOCSIFADDR, func(d *unix.Ifreq) error { return d.SetInet4Addr(net.ParseIP(p.address).To4()) }),
		set(unix.SIOCSIFNETMASK, func(d *unix.Ifreq) error { return d.SetInet4Addr(net.IPv4(255, 255, 255, 0).To4()) }),
		set(unix.SIOCSIFFLAGS, func(d *unix.Ifreq) error { d.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }),
	)
}

// do it in the namespace.
func (p *place) do(f func()) {
	done := make(chan struct{})
	p.work <- func() {
		f()
		close(done)
	}
	<-done
}

// canMakeDevices: kernels for guests may have no TUN. Where eBPF must be had, so must that.
func canMakeDevices(t testing.TB) bool {
	t.Helper()
	device, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		require.False(t, os.Getenv("TAPIO_REQUIRE_BPF") == "1" && os.Getenv("TAPIO_GUEST") != "1", "TAPIO_REQUIRE_BPF=1: %v", err)
		return false
	}
	return device.Close() == nil
}

// isOver says that no connection of a place waits for a packet any more.
func (p *place) isOver() (isOver bool, err error) {
	p.do(func() {
		var table []byte
		if table, err = os.ReadFile("/proc/thread-self/net/tcp"); err != nil {
			return
		}
		isOver = true
		for _, line := range strings.Split(strings.TrimSpace(string(table)), "\n")[1:] {
			const state, timeWait = 3, "06" // of TCP, as /proc has it
			isOver = isOver && strings.Fields(line)[state] == timeWait
		}
	})
	return isOver, err
}

// await the last packets, and those that they answer. What a reset that was lost leaves open is not waited for for ever.
func (w *badWay) await() error {
	for began := time.Now(); time.Since(began) < patience; time.Sleep(10 * time.Millisecond) {
		client, errClient := w.client.isOver()
		server, errServer := w.server.isOver()
		if err := errors.Join(errClient, errServer); err != nil || client && server {
			return err
		}
	}
	return nil
}

// badWay is between two places.
type badWay struct{ client, server *place }

// carrier takes packets from one place to another. It ends with the process.
type carrier func(from, to *os.File)

func newBadWay(toServer, toClient carrier) (*badWay, error) {
	client, err := newPlace("10.77.0.1")
	if err != nil {
		return nil, err
	}
	server, err := newPlace("10.77.0.2")
	if err != nil {
		return nil, err
	}
	go toServer(client.device, server.device)
	go toClient(server.device, client.device)
	return &badWay{client, server}, nil
}

// newMixingWay has packets overtake each other, and some come twice.
func newMixingWay() (*badWay, error) {
	return newBadWay(mixing(rand.New(rand.NewPCG(1, 0))), mixing(rand.New(rand.NewPCG(2, 0))))
}

func mixing(random *rand.Rand) carrier {
	return func(from, to *os.File) {
		packets := make(chan []byte, 64)
		go eachPacket(from, func(packet []byte) { packets <- slices.Clone(packet) })
		mix(packets, to, random)
	}
}

func eachPacket(from *os.File, do func(packet []byte)) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		do(buffer[:n])
	}
}

func mix(packets <-chan []byte, to *os.File, random *rand.Rand) {
	var held [][]byte
	for {
		select {
		case packet := <-packets:
			if held = append(held, packet); random.IntN(3) == 0 && len(held) < 8 {
				continue
			}
		case <-time.After(time.Millisecond):
		}
		random.Shuffle(len(held), func(i, j int) { held[i], held[j] = held[j], held[i] })
		for _, packet := range held {
			for range 1 + random.IntN(20)/19 {
				to.Write(packet) // what a full device does not take comes again
			}
		}
		held = held[:0]
	}
}

func (w *badWay) listen(s script) (listener net.Listener, err error) {
	s.Address = w.server.address + ":0"
	w.server.do(func() { listener, err = s.listen() })
	return listener, err
}

func (w *badWay) dial(dialer net.Dialer, address string) (connection net.Conn, err error) {
	w.client.do(func() { connection, err = dialer.Dial("tcp", address) })
	return connection, err
}

// newLosingWay loses what ends each connection's handshake, and the first packet with payload behind it, so that the second one
// is what ends it. Both are sent again.
func newLosingWay() (*badWay, error) {
	return newBadWay(losingBeginnings, func(from, to *os.File) {
		eachPacket(from, func(packet []byte) { to.Write(packet) })
	})
}

func losingBeginnings(from, to *os.File) {
	const isSYN = 0x02
	hasLost := map[uint16]map[bool]bool{} // by the client's port, and by whether it had payload
	eachPacket(from, func(packet []byte) {
		tcp := segmentOf(packet)
		if tcp == nil {
			return
		}
		client, hasPayload := binary.BigEndian.Uint16(tcp), len(tcp) > int(tcp[12]>>4)*4
		switch {
		case tcp[13]&isSYN != 0:
			hasLost[client] = map[bool]bool{}
		case !hasLost[client][hasPayload]:
			hasLost[client][hasPayload] = true
			return
		}
		to.Write(packet)
	})
}

// segmentOf TCP in a packet of IPv4 (RFC 791, section 3.1; RFC 9293, section 3.1); nil: it is another one.
func segmentOf(packet []byte) []byte {
	if packet[0]>>4 != 4 || packet[9] != unix.IPPROTO_TCP {
		return nil
	}
	return packet[int(packet[0]&0xf)*4:]
}
