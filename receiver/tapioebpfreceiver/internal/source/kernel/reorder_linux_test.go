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
	"sync"
	"sync/atomic"
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

// newMixingWay has packets overtake each other, some come twice, and some are lost.
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
			times := 1
			switch random.IntN(20) {
			case 0:
				times = 2
			case 1:
				times = 0
			}
			for range times {
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
	return newBadWay(losingBeginnings, asItIs)
}

func asItIs(from, to *os.File) {
	eachPacket(from, func(packet []byte) { to.Write(packet) })
}

// newEchoingWay brings the server the client's last packet with payload once more, when it has answered.
func newEchoingWay() (*badWay, error) {
	var last atomic.Pointer[[]byte]
	toServer := eachPayload(func(packet []byte, _ int, _, to *os.File) {
		again := slices.Clone(packet)
		last.Store(&again)
		to.Write(packet)
	})
	return newBadWay(toServer, eachPayload(func(packet []byte, _ int, from, to *os.File) {
		if again := last.Load(); again != nil {
			from.Write(*again)
		}
		to.Write(packet)
	}))
}

// newCrossingWay holds the second segment with payload that the server sends until it has had the second one of the client.
func newCrossingWay() (*badWay, error) {
	asked := make(chan struct{})
	var once sync.Once
	toServer := eachPayload(func(packet []byte, number int, _, to *os.File) {
		to.Write(packet)
		if number == 2 {
			once.Do(func() { close(asked) })
		}
	})
	return newBadWay(toServer, eachPayload(func(packet []byte, number int, _, to *os.File) {
		if number == 2 {
			<-asked
		}
		to.Write(packet)
	}))
}

// eachPayload is for segments with some, of one connection. The first one has number 1, also when it is sent again. Others go their way.
func eachPayload(do func(packet []byte, number int, from, to *os.File)) carrier {
	return func(from, to *os.File) {
		numbers := map[uint32]int{} // by sequence number
		eachPacket(from, func(packet []byte) {
			tcp := segmentOf(packet)
			if tcp == nil || !hasPayload(tcp) {
				to.Write(packet)
				return
			}
			sequence := binary.BigEndian.Uint32(tcp[4:])
			if numbers[sequence] == 0 {
				numbers[sequence] = len(numbers) + 1
			}
			do(packet, numbers[sequence], from, to)
		})
	}
}

// inGroup is how many segments newGroupingWay takes together: fewer than TCP begins with (RFC 6928).
const inGroup = 8

// newGroupingWay brings the client the first two segments of each group after most of the others, and the last one between them.
func newGroupingWay() (*badWay, error) {
	return newBadWay(asItIs, inGroupsOf(inGroup, func(group [][]byte) [][]byte {
		return append(group[2:inGroup-1:inGroup-1], group[0], group[inGroup-1], group[1])
	}))
}

// newMergingWay brings the client the second and the third of four segments, then these and the fourth one as one, and the first one
// last.
func newMergingWay() (*badWay, error) {
	return newBadWay(asItIs, inGroupsOf(4, func(group [][]byte) [][]byte {
		return [][]byte{group[1], group[2], merged(merged(group[1], group[2]), group[3]), group[0]}
	}))
}

// inGroupsOf so many segments with payload there is another order. What is sent again comes as it is.
func inGroupsOf(size int, order func(group [][]byte) [][]byte) carrier {
	return func(from, to *os.File) {
		var group [][]byte
		taken := 0
		eachPayload(func(packet []byte, number int, _, to *os.File) {
			if number <= taken {
				to.Write(packet)
				return
			}
			taken = number
			if group = append(group, slices.Clone(packet)); len(group) < size {
				return
			}
			for _, p := range order(group) {
				to.Write(p)
			}
			group = nil
		})(from, to)
	}
}

// newForgingWay brings the server, with the client's first packet with payload, one that is far outside of what it would take.
func newForgingWay() (*badWay, error) {
	const farAway = 1 << 30 // bytes
	return newBadWay(eachPayload(func(packet []byte, number int, _, to *os.File) {
		to.Write(packet)
		if number == 1 {
			forged := slices.Clone(packet)
			sequence := segmentOf(forged)[4:]
			binary.BigEndian.PutUint32(sequence, binary.BigEndian.Uint32(sequence)+farAway)
			to.Write(withChecksums(forged))
		}
	}), asItIs)
}

// merged is the first packet with the payload of the second one behind its own.
func merged(first, second []byte) []byte {
	tcp := segmentOf(second)
	return withChecksums(append(slices.Clone(first), tcp[int(tcp[12]>>4)*4:]...))
}

// withChecksums makes the length and the checksums of a packet right (RFC 791 and 9293, sections 3.1).
func withChecksums(packet []byte) []byte {
	binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
	header := packet[:int(packet[0]&0xf)*4]
	binary.BigEndian.PutUint16(header[10:], 0)
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	tcp := segmentOf(packet)
	pseudo := binary.BigEndian.AppendUint16(append(slices.Clone(packet[12:20]), 0, unix.IPPROTO_TCP), uint16(len(tcp)))
	binary.BigEndian.PutUint16(tcp[16:], 0)
	binary.BigEndian.PutUint16(tcp[16:], checksum(append(pseudo, tcp...)))
	return packet
}

// checksum is that of RFC 1071.
func checksum(data []byte) uint16 {
	sum := uint32(0)
	for i, c := range data {
		sum += uint32(c) << (8 * (1 - i%2))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func hasPayload(tcp []byte) bool { return len(tcp) > int(tcp[12]>>4)*4 }

func losingBeginnings(from, to *os.File) {
	const isSYN = 0x02
	hasLost := map[uint16]map[bool]bool{} // by the client's port, and by whether it had payload
	eachPacket(from, func(packet []byte) {
		tcp := segmentOf(packet)
		if tcp == nil {
			return
		}
		client, payload := binary.BigEndian.Uint16(tcp), hasPayload(tcp)
		switch {
		case tcp[13]&isSYN != 0:
			hasLost[client] = map[bool]bool{}
		case !hasLost[client][payload]:
			hasLost[client][payload] = true
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
