// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package simulator // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/simulator"

import (
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// record is what the kernel would write, and when.
type record struct {
	time   uint64 // CLOCK_BOOTTIME, ns
	number uint64 // in the order of making, which decides where times are equal
	family event.Family
	bytes  []byte
}

// encode puts a wire struct and what stands behind it where a uint64 may begin, as in a ring.
func encode[T any](fixed *T, tails ...[]byte) []byte {
	size := int(unsafe.Sizeof(*fixed))
	for _, tail := range tails {
		size += len(tail)
	}
	words := make([]uint64, (size+7)/8)
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), size)
	at := copy(bytes, unsafe.Slice((*byte)(unsafe.Pointer(fixed)), unsafe.Sizeof(*fixed)))
	for _, tail := range tails {
		at += copy(bytes[at:], tail)
	}
	return bytes
}

func (p *process) header(kind event.Type, time uint64) bpf.WireEventHeader {
	return bpf.WireEventHeader{Time: time, StartTime: p.start, CgroupId: p.cgroup, Pid: p.pid, Type: uint16(kind)}
}

func (p *process) identity() bpf.WireProcessIdentity {
	identity := bpf.WireProcessIdentity{
		ParentStartTime: p.parent.start, ParentPid: p.parent.pid, Vpid: p.vpid, Uid: p.credentials.Uid,
		Euid: p.credentials.Euid, Session: p.session,
	}
	for i, c := range []byte(p.comm()[:min(len(p.comm()), len(identity.Comm)-1)]) {
		identity.Comm[i] = c
	}
	return identity
}

func (p *process) comm() string { return comm(p.exe) }

func comm(exe string) string { return exe[strings.LastIndexByte(exe, '/')+1:] }

func forkRecord(p *process, time uint64) []byte {
	return encode(&bpf.WireProcessFork{Header: p.header(event.TypeProcessFork, time), Process: p.identity()})
}

// startersPeak is the most memory that what starts programs has used, such as a shell, KiB.
const startersPeak = 4 << 10

func execRecord(p *process, time uint64, args ...string) []byte {
	identity := p.identity()
	identity.PeakBefore = startersPeak
	exe, cwd := reversePath(p.exe), reversePath(p.cwd)
	joined := []byte(strings.Join(args, "\x00") + "\x00")
	var flags uint16
	if p.unlinked {
		flags = event.ExecExeUnlinked
	}
	return encode(&bpf.WireProcessExec{
		Header: p.header(event.TypeProcessExec, time), Process: identity,
		ExeSize: uint16(len(exe)), CwdSize: uint16(len(cwd)), ArgsSize: uint16(len(joined)), Flags: flags,
	}, exe, cwd, joined)
}

// reversePath has a path's components from the last to the first, as the kernel walks it.
func reversePath(path string) (reverse []byte) {
	for _, component := range slices.Backward(strings.Split(path, "/")) {
		if component != "" {
			reverse = append(append(reverse, component...), 0)
		}
	}
	return reverse
}

// leastCPUTime is of a process that was there at a tick: what ended before has none that the kernel knows of, ns.
const leastCPUTime = 1e6

func exitRecord(p *process, time uint64, status uint32, cpuTime, memory uint64) []byte {
	exit := bpf.WireProcessExit{Header: p.header(event.TypeProcessExit, time), PeakMemory: max(memory, startersPeak<<10), Status: status}
	if cpuTime >= leastCPUTime {
		exit.CpuTime, exit.ReadBytes, exit.WrittenBytes = cpuTime, memory/4, cpuTime/1e6*512
		exit.Flags = event.ExitHasUsage | event.ExitHasIO
	}
	return encode(&exit)
}

// cgroupRecord is of a container's cgroup that was made or removed; there is no process in it.
func cgroupRecord(kind event.Type, c *container, time uint64) []byte {
	path := append([]byte(c.cgroupPath()), 0)
	return encode(&bpf.WireCgroupChange{
		Header:   bpf.WireEventHeader{Time: time, CgroupId: c.cgroup, Type: uint16(kind)},
		PathSize: uint16(len(path)),
	}, path)
}

func oomRecord(p *process, time uint64) []byte {
	return encode(&bpf.WireProcessOomKill{Header: p.header(event.TypeProcessOOMKill, time)})
}

// connection between two processes, of which one may be on another node.
type connection struct {
	client, server         *process // nil: not on this node
	network                *network // of the client
	from                   endpoint // the client
	to                     endpoint // the server, as the client has it
	at                     endpoint // the server's own: where the node leads to that a Service's address stands for
	agent                  string   // what an HTTP client says that it is
	protocol               uint8
	opened, established    uint64
	sent, received         uint64 // by the client
	questions, answers     uint64 // packets of UDP, by the client
	told                   *told  // nil: nothing so far
	reset                  bool   // by the server
	sequence, acknowledged uint32 // of the client's next byte, and of the server's
	cause                  bpf.WireCause
	rtt                    uint32 // us
}

type endpoint struct {
	address [16]byte
	port    uint16
	netns   uint32
}

func (c *connection) ends(role uint8) bpf.WireConnectionEnds {
	local, peer := c.from, c.to
	if role != event.RoleClient {
		local, peer = c.at, c.from
	}
	return bpf.WireConnectionEnds{
		LocalAddress: local.address, PeerAddress: peer.address, LocalPort: local.port, PeerPort: peer.port,
		Protocol: c.protocol, Role: role, Netns: local.netns,
	}
}

func connectRecord(c *connection, time uint64, errno int32) []byte {
	return encode(&bpf.WireConnectionConnect{
		Header: c.client.header(event.TypeConnectionConnect, time), Ends: c.ends(event.RoleClient), Opened: c.opened, Error: errno,
		Cause: c.cause, Sequence: c.sequence, Acknowledged: c.acknowledged,
	})
}

// told is what was reported of a connection.
type told struct{ sent, received uint64 }

// statsRecord is what one side says of the connection, to its end or so far. Who is at a UDP socket that is older
// than the source has no role, and does not know when the flow began.
func statsRecord(kind event.Type, c *connection, p *process, role uint8, time uint64) []byte {
	stats := bpf.WireConnectionStats{
		Header: p.header(kind, time), Ends: c.ends(role), Opened: c.established,
		SentBytes: c.sent, ReceivedBytes: c.received, SentBytesDelta: c.sent, ReceivedBytesDelta: c.received,
		SentPackets: c.questions, ReceivedPackets: c.answers,
	}
	if c.told == nil {
		stats.Flags = event.ConnectionFirstRecord
	} else {
		stats.SentBytesDelta, stats.ReceivedBytesDelta = c.sent-c.told.sent, c.received-c.told.received
	}
	if role != event.RoleClient {
		stats.SentBytes, stats.ReceivedBytes = stats.ReceivedBytes, stats.SentBytes
		stats.SentBytesDelta, stats.ReceivedBytesDelta = stats.ReceivedBytesDelta, stats.SentBytesDelta
		stats.SentPackets, stats.ReceivedPackets = stats.ReceivedPackets, stats.SentPackets
	}
	if role == event.RoleUnknown {
		stats.Opened = 0
	}
	if c.protocol == event.ProtocolTCP {
		stats.Rtt, stats.Flags = c.rtt, stats.Flags|event.ConnectionHasRTT
	}
	switch {
	case c.reset && role == event.RoleClient:
		stats.Error = connectionReset
	case c.reset:
		stats.Flags |= event.ConnectionAborted
	}
	return encode(&stats)
}

func closeRecord(c *connection, p *process, role uint8, time uint64) []byte {
	return statsRecord(event.TypeConnectionClose, c, p, role, time)
}

// exchange is a request and its response.
type exchange struct {
	method, target, host, agent string
	status                      uint16
	requestBody, responseBody   uint64
	start, first, end           uint64 // request's first byte at the client, response's first and last byte there
	sequence, acknowledged      uint32
	errno                       int32 // the connection was cut; no response came
}

func (x *exchange) head() []byte {
	head := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n", x.method, x.target, x.host, x.agent)
	if x.requestBody > 0 {
		head = fmt.Appendf(head, "Content-Type: application/json\r\nContent-Length: %d\r\n", x.requestBody)
	}
	return append(head, "\r\n"...)
}

// exchangeRecord is what one side says of it; the server sees it a way of the wire later, and is done
// with it as much earlier. Its thread is the one that answers.
func exchangeRecord(c *connection, x *exchange, p *process, role uint8, wire uint64, thread uint32) []byte {
	head := x.head()
	record := bpf.WireHttpExchange{
		Ends: c.ends(role), RequestStart: x.start, RequestEnd: x.start, ResponseStart: x.first, ResponseEnd: x.end,
		RequestBodySize: x.requestBody, ResponseBodySize: x.responseBody,
		RequestSequence: x.sequence, RequestAcknowledged: x.acknowledged, Status: x.status, Error: x.errno,
		Flags: event.HTTPRequestComplete | event.HTTPResponseComplete, RequestHeadSize: uint16(len(head)), Cause: c.cause,
	}
	end := x.end
	if role == event.RoleServer {
		record.RequestStart, record.RequestEnd = x.start+wire, x.start+wire
		record.ResponseStart, record.ResponseEnd, end = x.first-wire, x.end-wire, x.end-wire
		record.Cause = bpf.WireCause{Thread: thread, Flags: event.CauseAnswered}
	}
	if x.status == 0 {
		record.ResponseStart, record.ResponseEnd, record.Flags = 0, 0, event.HTTPRequestComplete
	}
	record.Header = p.header(event.TypeHTTPExchange, end)
	return encode(&record, head)
}

func dnsRecord(c *connection, socket uint64, time uint64, sent bool, message []byte) []byte {
	record := bpf.WireDnsMessage{
		Header: c.client.header(event.TypeDNSMessage, time), Ends: c.ends(event.RoleClient),
		Socket: socket, Size: uint32(len(message)), Captured: uint32(len(message)),
	}
	if sent {
		record.Flags, record.Cause = event.DNSSent, c.cause
	}
	return encode(&record, message)
}

// packDNS is a question for addresses, or what is answered to it. There are none of IPv6.
func packDNS(id uint16, name string, kind dnsmessage.Type, response bool, code dnsmessage.RCode, addresses ...[16]byte) []byte {
	message := dnsmessage.Message{Header: dnsmessage.Header{ID: id, Response: response, RecursionDesired: true, RecursionAvailable: response, RCode: code}}
	asked := dnsmessage.MustNewName(name + ".")
	message.Questions = []dnsmessage.Question{{Name: asked, Type: kind, Class: dnsmessage.ClassINET}}
	for _, address := range addresses {
		if kind != dnsmessage.TypeA {
			break
		}
		message.Answers = append(message.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: asked, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: 30},
			Body:   &dnsmessage.AResource{A: [4]byte(address[12:])},
		})
	}
	packed, err := message.Pack()
	if err != nil {
		panic(fmt.Sprintf("a name of the simulated world cannot be packed: %q: %v", name, err)) // all names are ours
	}
	return packed
}
