// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event/eventtest"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
)

type attributes = map[string]any

func merge(parts ...attributes) attributes {
	merged := attributes{}
	for _, part := range parts {
		maps.Copy(merged, part)
	}
	return merged
}

func without(from attributes, keys ...string) attributes {
	rest := maps.Clone(from)
	for _, key := range keys {
		delete(rest, key)
	}
	return rest
}

// What resources and events carry is written out: it is the contract with users.
var (
	nodeResource = attributes{"tapio.source": "ebpf", "host.name": "node", "os.type": "linux"}
	curlResource = merge(nodeResource, attributes{
		"service.name": "curl", "process.executable.name": "curl", "process.executable.path": "/usr/bin/curl",
	})
	initResource = merge(nodeResource, attributes{
		"service.name": "init", "process.executable.name": "init", "process.executable.path": "/sbin/init",
	})

	process10 = attributes{
		"process.pid": int64(10), "process.parent_pid": int64(1), "process.vpid": int64(5),
		"process.user.id": int64(70000), "process.real_user.id": int64(1000),
		"process.creation.time": "2023-11-14T22:13:21Z",
	}
	curl10 = merge(process10, attributes{"process.executable.name": "curl"})

	curlExec = merge(curl10, attributes{
		"process.executable.path": "/usr/bin/curl", "process.working_directory": "/srv",
		"process.command": "curl", "process.command_args": []any{"curl", "https://REDACTED:REDACTED@h/"},
	})
	usage = attributes{
		"tapio.process.cpu.time": 1.5, "tapio.process.memory.peak": int64(4096),
		"tapio.process.io.read_bytes": int64(100), "tapio.process.io.written_bytes": int64(200),
	}
	exitAt4 = merge(usage, attributes{"process.exit.time": "2023-11-14T22:13:24Z"})

	owner10 = attributes{"process.pid": int64(10), "process.executable.name": "curl"}
	tcp     = attributes{
		"network.transport": "tcp", "network.type": "ipv4",
		"network.local.address": "10.0.0.1", "network.local.port": int64(40000),
		"network.peer.address": "10.0.0.2", "network.peer.port": int64(443),
	}
	client = attributes{"tapio.network.role": "client", "server.address": "10.0.0.2", "server.port": int64(443)}
	server = attributes{
		"tapio.network.role": "server", "client.address": "10.0.0.2", "client.port": int64(443),
		"server.address": "10.0.0.1", "server.port": int64(40000),
	}
	bytesAndDuration = attributes{
		"tapio.network.sent_bytes": int64(1000), "tapio.network.received_bytes": int64(2000), "tapio.network.duration": 1.0,
	}
	tcpNumbers = attributes{"tapio.tcp.retransmits": int64(3), "tapio.tcp.rtt": 0.00025}
	curlClosed = merge(owner10, tcp, client, bytesAndDuration, tcpNumbers)
)

func execSpan(resource, attributes attributes, start, end uint64, status ptrace.StatusCode) gotSpan {
	return gotSpan{Resource: resource, Attributes: attributes, Name: "process.exec", Kind: ptrace.SpanKindInternal, Start: wallTime(start), End: wallTime(end), Status: status}
}

func connectSpan(resource, attributes attributes, start, end uint64, status ptrace.StatusCode) gotSpan {
	return gotSpan{Resource: resource, Attributes: attributes, Name: "tcp.connect", Kind: ptrace.SpanKindClient, Start: wallTime(start), End: wallTime(end), Status: status}
}

var severityTexts = map[plog.SeverityNumber]string{
	plog.SeverityNumberInfo: "Info", plog.SeverityNumberWarn: "Warn", plog.SeverityNumberError: "Error",
}

func logOf(name string, resource, attributes attributes, at uint64, severity plog.SeverityNumber, inTrace bool) gotLog {
	return gotLog{
		Resource: resource, Attributes: attributes, Name: name, Time: wallTime(at), Observed: wallTime(at),
		Severity: severity, SeverityText: severityTexts[severity], InTrace: inTrace,
	}
}

// translation is what the last record leads to.
type translation struct {
	name    string
	before  [][]byte
	record  func() []byte
	spans   []gotSpan
	logs    []gotLog
	family  event.Family
	exclude bool
}

func translations() []translation {
	const (
		info, warn, failed = plog.SeverityNumberInfo, plog.SeverityNumberWarn, plog.SeverityNumberError
		unset, isError     = ptrace.StatusCodeUnset, ptrace.StatusCodeError
		execName           = "tapio.process.exec"
		forkName           = "tapio.process.fork"
		exitName           = "tapio.process.exit"
		oomName            = "tapio.process.oom_kill"
		closeName          = "tapio.network.connection.close"
		reportName         = "tapio.network.connection.report"
	)
	afterCurl := [][]byte{curl(2 * second)}
	stats := func(kind event.Type, change func(*bpf.WireConnectionStats)) func() []byte {
		return func() []byte { return statsRecord(kind, 4*second, change) }
	}
	same := func(*bpf.WireConnectionStats) {}
	processes := []translation{
		{
			name:   "fork",
			record: func() []byte { return forkRecord(10, second, 1, 0) },
			logs:   []gotLog{logOf(forkName, initResource, merge(process10, attributes{"process.executable.name": "init"}), second, info, false)},
		},
		{
			name:   "fork by an unknown parent",
			record: func() []byte { return forkRecord(10, second, 99, 0) },
			logs:   []gotLog{logOf(forkName, nodeResource, merge(process10, attributes{"process.parent_pid": int64(99)}), second, info, false)},
		},
		{
			name:   "fork without a parent",
			record: func() []byte { return forkRecord(10, second, 0, 0) },
			logs:   []gotLog{logOf(forkName, nodeResource, without(process10, "process.parent_pid"), second, info, false)},
		},
		{
			name:   "exec",
			before: [][]byte{forkRecord(10, second, 1, 0)},
			record: func() []byte { return curl(2 * second) },
			logs:   []gotLog{logOf(execName, curlResource, curlExec, 2*second, info, true)},
		},
		{
			name:   "exec by a process that was unknown",
			record: func() []byte { return curl(2 * second) },
			logs:   []gotLog{logOf(execName, curlResource, curlExec, 2*second, info, true)},
		},
		{
			name: "exec without arguments, of an unlinked file",
			record: func() []byte {
				return execRecord(10, second, 2*second, event.ExecExeUnlinked|event.ExecArgsUnreadable, "/usr/bin/curl", "/")
			},
			logs: []gotLog{logOf(execName, curlResource, merge(without(curlExec, "process.command", "process.command_args"), attributes{
				"process.working_directory": "/", "tapio.process.executable.unlinked": true,
			}), 2*second, info, true)},
		},
		{
			name: "exec with arguments that were cut off",
			record: func() []byte {
				return execRecord(10, second, 2*second, event.ExecArgsTruncated, "/usr/bin/curl", "/srv", "curl")
			},
			logs: []gotLog{logOf(execName, curlResource, merge(curlExec, attributes{
				"process.command_args": []any{"curl"}, "tapio.process.command_args.truncated": true,
			}), 2*second, info, true)},
		},
		{
			name:   "exec of a file without a path",
			record: func() []byte { return execRecord(10, second, 2*second, 0, "", "/srv") },
			logs:   []gotLog{logOf(execName, nodeResource, merge(process10, attributes{"process.working_directory": "/srv"}), 2*second, info, true)},
		},
		{
			name:   "exec in the place of another",
			before: afterCurl,
			record: func() []byte { return execRecord(10, second, 3*second, 0, "/sbin/init", "/", "init") },
			spans:  []gotSpan{execSpan(curlResource, curlExec, 2*second, 3*second, unset)},
			logs: []gotLog{logOf(execName, initResource, merge(process10, attributes{
				"process.executable.name": "init", "process.executable.path": "/sbin/init", "process.working_directory": "/",
				"process.command": "init", "process.command_args": []any{"init"},
			}), 3*second, info, true)},
		},
		{
			name:   "exit",
			before: afterCurl,
			record: func() []byte { return exitRecord(10, second, 4*second, 0) },
			spans:  []gotSpan{execSpan(curlResource, merge(curlExec, exitAt4, attributes{"process.exit.code": int64(0)}), 2*second, 4*second, unset)},
			logs:   []gotLog{logOf(exitName, curlResource, merge(curl10, exitAt4, attributes{"process.exit.code": int64(0)}), 4*second, info, true)},
		},
		{
			name:   "exit with an error",
			before: afterCurl,
			record: func() []byte { return exitRecord(10, second, 4*second, 7<<8) },
			spans: []gotSpan{execSpan(curlResource, merge(curlExec, exitAt4, attributes{
				"process.exit.code": int64(7), "error.type": "exit_7",
			}), 2*second, 4*second, isError)},
			logs: []gotLog{logOf(exitName, curlResource, merge(curl10, exitAt4, attributes{
				"process.exit.code": int64(7), "error.type": "exit_7",
			}), 4*second, info, true)},
		},
		{
			name:   "exit by a signal",
			before: afterCurl,
			record: func() []byte { return exitRecord(10, second, 4*second, 0x80|11) },
			spans: []gotSpan{execSpan(curlResource, merge(curlExec, exitAt4, attributes{
				"tapio.process.exit.signal": "SIGSEGV", "error.type": "SIGSEGV",
			}), 2*second, 4*second, isError)},
			logs: []gotLog{logOf(exitName, curlResource, merge(curl10, exitAt4, attributes{
				"tapio.process.exit.signal": "SIGSEGV", "error.type": "SIGSEGV",
			}), 4*second, warn, true)},
		},
		{
			name:   "exit of which the kernel does not tell what was used",
			before: afterCurl,
			record: func() []byte {
				return eventtest.Record(bpf.WireProcessExit{Header: headerOf(event.TypeProcessExit, 10, second, 4*second), CpuTime: 1, ReadBytes: 1, WrittenBytes: 1})
			},
			spans: []gotSpan{execSpan(curlResource, merge(curlExec, attributes{
				"process.exit.time": "2023-11-14T22:13:24Z", "process.exit.code": int64(0),
			}), 2*second, 4*second, unset)},
			logs: []gotLog{logOf(exitName, curlResource, merge(curl10, attributes{
				"process.exit.time": "2023-11-14T22:13:24Z", "process.exit.code": int64(0),
			}), 4*second, info, true)},
		},
		{
			name:   "exit of a process whose exec was not seen",
			before: [][]byte{forkRecord(10, second, 1, 0)},
			record: func() []byte { return exitRecord(10, second, 4*second, 0) },
			logs: []gotLog{logOf(exitName, initResource, merge(process10, exitAt4, attributes{
				"process.executable.name": "init", "process.exit.code": int64(0),
			}), 4*second, info, false)},
		},
		{
			name:   "exit of an unknown process",
			record: func() []byte { return exitRecord(10, second, 4*second, 9) },
			logs: []gotLog{logOf(exitName, nodeResource, merge(exitAt4, attributes{
				"process.pid": int64(10), "tapio.process.exit.signal": "SIGKILL", "error.type": "SIGKILL",
			}), 4*second, warn, false)},
		},
		{
			name:   "exit of nobody",
			record: func() []byte { return exitRecord(0, 0, 4*second, 0) },
			logs:   []gotLog{logOf(exitName, nodeResource, merge(exitAt4, attributes{"process.exit.code": int64(0)}), 4*second, info, false)},
		},
		{
			name:   "OOM kill",
			before: afterCurl,
			record: func() []byte { return oomKillRecord(10, second, 3*second) },
			logs:   []gotLog{logOf(oomName, curlResource, curl10, 3*second, failed, true)},
		},
		{
			name:   "OOM kill that tells just the pid",
			before: afterCurl,
			record: func() []byte { return oomKillRecord(10, 0, 3*second) },
			logs:   []gotLog{logOf(oomName, curlResource, curl10, 3*second, failed, true)},
		},
		{
			name:   "OOM kill of an unknown process in scope",
			record: func() []byte { return oomKillRecord(10, second, 3*second) },
			logs:   []gotLog{logOf(oomName, nodeResource, attributes{"process.pid": int64(10)}, 3*second, failed, false)},
		},
		{
			name:    "OOM kill that tells just the pid, of an unknown process",
			record:  func() []byte { return oomKillRecord(10, 0, 3*second) },
			exclude: true,
		},
		{
			name:    "OOM kill that tells just the pid, of the parent of one in scope",
			before:  [][]byte{forkRecord(10, second, 99, 0)},
			record:  func() []byte { return oomKillRecord(99, 0, 3*second) },
			exclude: true,
		},
	}
	connections := []translation{
		{
			name:   "connect",
			before: afterCurl,
			record: func() []byte { return connectRecord(10, 3*second, 4*second, 0) },
			spans:  []gotSpan{connectSpan(curlResource, merge(owner10, tcp, client), 3*second, 4*second, unset)},
		},
		{
			name:   "connect refused",
			before: afterCurl,
			record: func() []byte { return connectRecord(10, 3*second, 4*second, 111) },
			spans:  []gotSpan{connectSpan(curlResource, merge(owner10, tcp, client, attributes{"error.type": "connection_refused"}), 3*second, 4*second, isError)},
			logs:   []gotLog{logOf(closeName, curlResource, merge(owner10, tcp, client, attributes{"error.type": "connection_refused"}), 4*second, warn, true)},
		},
		{
			name:   "connect failed without an errno",
			before: afterCurl,
			record: func() []byte { return connectRecord(10, 3*second, 4*second, event.NoErrno) },
			spans:  []gotSpan{connectSpan(curlResource, merge(owner10, tcp, client, attributes{"error.type": "_OTHER"}), 3*second, 4*second, isError)},
			logs:   []gotLog{logOf(closeName, curlResource, merge(owner10, tcp, client, attributes{"error.type": "_OTHER"}), 4*second, warn, true)},
		},
		{
			name:   "connect by an unknown process",
			record: func() []byte { return connectRecord(10, 3*second, 4*second, 0) },
			spans:  []gotSpan{connectSpan(nodeResource, merge(attributes{"process.pid": int64(10)}, tcp, client), 3*second, 4*second, unset)},
		},
		{
			name:   "connect by nobody",
			record: func() []byte { return connectRecord(0, 3*second, 4*second, 0) },
			spans:  []gotSpan{connectSpan(nodeResource, merge(tcp, client), 3*second, 4*second, unset)},
		},
		{
			name:   "close of a client's connection",
			before: afterCurl,
			record: stats(event.TypeConnectionClose, same),
			logs:   []gotLog{logOf(closeName, curlResource, curlClosed, 4*second, info, false)},
		},
		{
			name:   "close of a connection whose process has ended",
			before: [][]byte{curl(2 * second), exitRecord(10, second, 3*second, 0)},
			record: stats(event.TypeConnectionClose, same),
			logs:   []gotLog{logOf(closeName, curlResource, curlClosed, 4*second, info, false)},
		},
		{
			name:   "close of a server's connection",
			before: afterCurl,
			record: stats(event.TypeConnectionClose, func(e *bpf.WireConnectionStats) { e.Ends.Role = event.RoleServer }),
			logs:   []gotLog{logOf(closeName, curlResource, merge(owner10, tcp, server, bytesAndDuration, tcpNumbers), 4*second, info, false)},
		},
		{
			name:   "close of a connection that is older than the source",
			before: afterCurl,
			record: stats(event.TypeConnectionClose, func(e *bpf.WireConnectionStats) {
				e.Ends.Role, e.Opened, e.Flags = event.RoleUnknown, 0, 0
			}),
			logs: []gotLog{logOf(closeName, curlResource, without(merge(owner10, tcp, bytesAndDuration, tcpNumbers),
				"tapio.network.duration", "tapio.tcp.rtt"), 4*second, info, false)},
		},
		{
			name:   "close of a connection that nobody owns",
			record: stats(event.TypeConnectionClose, func(e *bpf.WireConnectionStats) { e.Header.Pid, e.Header.StartTime = 0, 0 }),
			logs:   []gotLog{logOf(closeName, nodeResource, without(curlClosed, "process.pid", "process.executable.name"), 4*second, info, false)},
		},
		{
			name:   "close by this side's reset",
			before: afterCurl,
			record: stats(event.TypeConnectionClose, func(e *bpf.WireConnectionStats) { e.Flags |= event.ConnectionAborted }),
			logs: []gotLog{logOf(closeName, curlResource, merge(curlClosed, attributes{
				"tapio.tcp.reset": "sent", "error.type": "connection_reset",
			}), 4*second, warn, false)},
		},
		{
			name:   "close by the peer's reset",
			before: afterCurl,
			record: stats(event.TypeConnectionClose, func(e *bpf.WireConnectionStats) { e.Error = 104 }),
			logs: []gotLog{logOf(closeName, curlResource, merge(curlClosed, attributes{
				"tapio.tcp.reset": "received", "error.type": "connection_reset",
			}), 4*second, warn, false)},
		},
		{
			name:   "close by time-out",
			before: afterCurl,
			record: stats(event.TypeConnectionClose, func(e *bpf.WireConnectionStats) { e.Error = 110 }),
			logs:   []gotLog{logOf(closeName, curlResource, merge(curlClosed, attributes{"error.type": "timed_out"}), 4*second, warn, false)},
		},
		{
			name:   "report",
			before: afterCurl,
			record: stats(event.TypeConnectionReport, same),
			logs:   []gotLog{logOf(reportName, curlResource, curlClosed, 4*second, info, false)},
		},
		{
			name:   "close of a UDP flow over IPv6",
			before: afterCurl,
			record: stats(event.TypeConnectionClose, func(e *bpf.WireConnectionStats) {
				e.Ends.Protocol = event.ProtocolUDP
				e.Ends.LocalAddress, e.Ends.PeerAddress = eventtest.Address("2001:db8::1"), eventtest.Address("2001:db8::2")
			}),
			logs: []gotLog{logOf(closeName, curlResource, merge(owner10, tcp, client, bytesAndDuration, attributes{
				"network.transport": "udp", "network.type": "ipv6", "server.address": "2001:db8::2",
				"network.local.address": "2001:db8::1", "network.peer.address": "2001:db8::2",
				"tapio.network.sent_packets": int64(11), "tapio.network.received_packets": int64(12),
			}), 4*second, info, false)},
		},
		{
			name: "report of a UDP flow of unknown role",
			record: stats(event.TypeConnectionReport, func(e *bpf.WireConnectionStats) {
				e.Ends.Protocol, e.Ends.Role = event.ProtocolUDP, event.RoleUnknown
			}),
			logs: []gotLog{logOf(reportName, nodeResource, merge(tcp, bytesAndDuration, attributes{
				"process.pid": int64(10), "network.transport": "udp",
				"tapio.network.sent_packets": int64(11), "tapio.network.received_packets": int64(12),
			}), 4*second, info, false)},
		},
	}
	for i := range processes {
		processes[i].family = event.FamilyProcess
	}
	for i := range connections {
		connections[i].family = event.FamilyNetwork
	}
	return slices.Concat(processes, connections, tlsTranslations(), httpTranslations())
}

// TestHandle checks each event with each combination of wired signals.
func TestHandle(t *testing.T) {
	for combination := range 8 {
		signals := Signals{Traces: combination&1 != 0, Metrics: combination&2 != 0, Logs: combination&4 != 0}
		for _, tt := range translations() {
			t.Run(fmt.Sprintf("%s/%+v", tt.name, signals), func(t *testing.T) {
				w := newWorld(signals, 100)
				w.handle(tt.before...)
				w.Take()
				before := w.ended(t)
				w.handle(tt.record())
				after := w.ended(t)
				events := w.Events()
				out := w.take(t)

				if !signals.Traces {
					tt.spans = nil
					if tt.family == event.FamilyNetwork { // there is no span, so no trace
						tt.logs = slices.Clone(tt.logs)
						for i := range tt.logs {
							tt.logs[i].InTrace = false
						}
					}
				}
				if !signals.Logs {
					tt.logs = nil
				}
				assert.Equal(t, tt.spans, out.spans)
				assert.Equal(t, tt.logs, out.logs)

				var want ledger.Counts
				isCarried := len(tt.spans)+len(tt.logs) > 0
				if isCarried {
					want[tt.family] = 1
				}
				assert.Equal(t, want, out.counts)
				assert.Equal(t, isCarried, events == 1)
				isExec := event.Type((*event.Header)(unsafe.Pointer(unsafe.SliceData(tt.record()))).Type) == event.TypeProcessExec
				isAggregated := !isCarried && !tt.exclude && (signals.Metrics || signals.Traces && isExec)
				assert.Equal(t, isAggregated, after.Aggregated-before.Aggregated == 1, "aggregated")
				assert.Equal(t, !isCarried && !isAggregated, after.Filtered-before.Filtered == 1, "filtered")
				assert.Empty(t, after.Lost)
			})
		}
	}
}

func TestASpanAndItsLogsAreOfOneTrace(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(2*second), oomKillRecord(10, second, 3*second), exitRecord(10, second, 4*second, 9))
	out := w.take(t)
	require.Len(t, out.spanIDs, 1)
	assert.Equal(t, []ids{out.spanIDs[0], out.spanIDs[0], out.spanIDs[0]}, out.logIDs)
}

// TestPeakMemoryOfWhatRanBefore: the kernel keeps the higher peak, so that a lower one is not known.
func TestPeakMemoryOfWhatRanBefore(t *testing.T) {
	for before, want := range map[uint32]any{0: int64(4096), 3: int64(4096), 4: nil, 1 << 30: nil} {
		w := newWorld(allSignals, 100)
		start := bpf.WireProcessExec{
			Header:  headerOf(event.TypeProcessExec, 10, second, 2*second),
			Process: bpf.WireProcessIdentity{ParentPid: 1, PeakBefore: before},
		}
		w.handle(eventtest.Exec(start, "/usr/bin/curl", "/srv", "curl"), exitRecord(10, second, 4*second, 0))
		out := w.take(t)
		assert.Equal(t, want, out.spans[0].Attributes["tapio.process.memory.peak"], before)
		assert.Equal(t, want, out.logs[1].Attributes["tapio.process.memory.peak"], before)
	}
}

func TestAFailedConnectAndItsLogAreOfOneTrace(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(2*second), connectRecord(10, 3*second, 4*second, 111))
	out := w.take(t)
	require.Len(t, out.spanIDs, 1)
	assert.Equal(t, out.spanIDs[0], out.logIDs[1])
}

func TestAProgramInThePlaceOfAnotherIsItsChild(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(2*second), curl(3*second), exitRecord(10, second, 4*second, 0))
	out := w.take(t)
	require.Len(t, out.spanIDs, 2)
	first, second := out.spanIDs[0], out.spanIDs[1]
	assert.Equal(t, first.trace, second.trace)
	assert.NotEqual(t, first.span, second.span)
	assert.Equal(t, []pcommon.SpanID{{}, first.span}, out.parents)
	assert.Equal(t, []ids{first, second, second}, out.logIDs)
}

func TestWhatAProgramDoesIsBelowIt(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(2*second), connectRecord(10, 3*second, 4*second, 0), connectRecord(10, 3*second, 4*second, 0), exitRecord(10, second, 5*second, 0))
	out := w.take(t)
	require.Len(t, out.spanIDs, 3)
	program := out.spanIDs[2]
	assert.Equal(t, []pcommon.SpanID{program.span, program.span, {}}, out.parents)
	for _, id := range out.spanIDs {
		assert.Equal(t, program.trace, id.trace)
	}
}

func TestAForkedChildHasNoSpanOfItsOwn(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(2*second), forkRecord(11, 3*second, 10, second), exitRecord(11, 3*second, 4*second, 0))
	out := w.take(t)
	assert.Empty(t, out.spans)
	require.Len(t, out.logs, 3)
	for i, log := range out.logs[1:] {
		assert.Equal(t, out.logIDs[0], out.logIDs[i+1], "it is in its parent's program")
		assert.Equal(t, curlResource, log.Resource)
	}
}

func TestOneResourceForAllOfOneExecutable(t *testing.T) {
	w := newWorld(allSignals, 100)
	for pid := uint32(10); pid < 15; pid++ {
		w.handle(execRecord(pid, second, 2*second, 0, "/usr/bin/curl", "/"), exitRecord(pid, second, 3*second, 0))
	}
	batch := w.Take()
	assert.Equal(t, 1, batch.Traces.ResourceSpans().Len())
	assert.Equal(t, 5, batch.Traces.SpanCount())
	assert.Equal(t, 1, batch.Logs.ResourceLogs().Len())
	assert.Equal(t, 10, batch.Logs.LogRecordCount())
	assert.Equal(t, 10, batch.Events)
}

func TestABatchIsTakenOnce(t *testing.T) {
	w := newWorld(allSignals, 100)
	assert.Nil(t, w.Take())
	w.handle(curl(2 * second))
	assert.Equal(t, 1, w.Events())
	first := w.Take()
	assert.Zero(t, w.Events())
	assert.Nil(t, w.Take())
	w.handle(exitRecord(10, second, 3*second, 0))
	assert.Equal(t, 1, first.Logs.LogRecordCount(), "nothing is added to what was taken")
	assert.Equal(t, 1, w.Take().Logs.LogRecordCount())
}

func TestASpanDoesNotEndBeforeItBegins(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(curl(3*second), exitRecord(10, second, 2*second, 0))
	span := w.take(t).spans[0]
	assert.Equal(t, wallTime(3*second), span.Start)
	assert.Equal(t, wallTime(3*second), span.End)
}

func TestTheClockIsThatOfTheEventsTranslation(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.SetBootTime(5e9)
	w.handle(curl(2 * second))
	log := w.take(t).logs[0]
	assert.EqualValues(t, 7e9, log.Time)
	assert.Equal(t, "1970-01-01T00:00:06Z", log.Attributes["process.creation.time"])
}

func TestUndecodableRecordsAreLost(t *testing.T) {
	for name, record := range map[string][]byte{
		"empty":             {},
		"short":             make([]byte, 31),
		"unknown type":      eventtest.Record(bpf.WireEventHeader{Type: 0x01ff}),
		"unknown family":    eventtest.Record(bpf.WireEventHeader{Type: 0xff01}),
		"no type":           eventtest.Record(bpf.WireEventHeader{}),
		"header alone":      eventtest.Record(headerOf(event.TypeConnectionClose, 10, second, 2*second)),
		"exec":              eventtest.Record(headerOf(event.TypeProcessExec, 10, second, 2*second)),
		"exec without tail": eventtest.Record(bpf.WireProcessExec{Header: headerOf(event.TypeProcessExec, 10, second, 2*second), ExeSize: 1}),
		"fork":              eventtest.Record(headerOf(event.TypeProcessFork, 10, second, 2*second)),
		"exit":              eventtest.Record(headerOf(event.TypeProcessExit, 10, second, 2*second)),
		"OOM kill":          eventtest.Record(headerOf(event.TypeProcessOOMKill, 10, second, 2*second), make([]byte, 8)),
		"connect":           eventtest.Record(headerOf(event.TypeConnectionConnect, 10, second, 2*second)),
		"negative duration": connectRecord(10, 4*second, 3*second, 0),
		"exchange":          eventtest.Record(headerOf(event.TypeHTTPExchange, 10, second, 2*second)),
		"no request":        exchangeRecord("nothing", "", unchangedExchange),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(allSignals, 100)
			w.handle(record)
			assert.Equal(t, ledger.Row{Lost: map[string]uint64{"undecodable": 1}}, w.ended(t))
			assert.Nil(t, w.Take())
		})
	}
}

func TestUndecodableRecordsAreOfTheirFamily(t *testing.T) {
	w := newWorld(allSignals, 100)
	w.handle(eventtest.Record(bpf.WireEventHeader{Type: 0x02ff}), eventtest.Record(bpf.WireEventHeader{Type: 0x0e01}), nil)
	rows, err := w.account.Rows(func() (map[uint8]source.Counters, error) {
		return map[uint8]source.Counters{2: {Seen: 1}}, nil
	})
	require.NoError(t, err)
	assert.Equal(t, map[event.Family]ledger.Row{
		event.FamilyNetwork: {Seen: 1, Lost: map[string]uint64{"undecodable": 1}},
		event.FamilyOther:   {Seen: 2, Lost: map[string]uint64{"undecodable": 2}},
	}, rows)
}

func TestAddressNamesAreBounded(t *testing.T) {
	names := addressNames{}
	for i := range maxAddresses + 2 {
		address := eventtest.Address("10.0.0.0")
		address[14], address[15] = byte(i>>8), byte(i)
		assert.Equal(t, fmt.Sprintf("10.0.%d.%d", byte(i>>8), byte(i)), names.of(address))
	}
	assert.Len(t, names, 2)
}

// TestConnectionsInAHurry: those that opened and ended well are in metrics only. What failed is told, and what lasts.
func TestConnectionsInAHurry(t *testing.T) {
	const established, refused = 0, 111
	aborted := func(e *bpf.WireConnectionStats) { e.Flags |= event.ConnectionAborted }
	records := [][]byte{
		connectRecord(10, 3*second, 4*second, established), connectRecord(10, 3*second, 4*second, refused),
		statsRecord(event.TypeConnectionReport, 5*second, func(*bpf.WireConnectionStats) {}),
		statsRecord(event.TypeConnectionClose, 6*second, func(*bpf.WireConnectionStats) {}),
		statsRecord(event.TypeConnectionClose, 7*second, aborted),
	}
	for name, test := range map[string]struct {
		signals           Signals
		hurry             bool
		spans, logRecords int
	}{
		"has time":        {signals: allSignals, spans: 2, logRecords: 4},
		"in a hurry":      {signals: allSignals, hurry: true, spans: 1, logRecords: 3},
		"no logs":         {signals: Signals{Traces: true, Metrics: true}, hurry: true, spans: 1},
		"no traces":       {signals: Signals{Logs: true, Metrics: true}, hurry: true, logRecords: 3},
		"without metrics": {signals: Signals{Traces: true, Logs: true}, hurry: true, spans: 2, logRecords: 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(test.signals, 100)
			w.Hurry(test.hurry)
			w.handle(records...)
			w.requireClosed(t)
			told := w.take(t)
			assert.Len(t, told.spans, test.spans)
			assert.Len(t, told.logs, test.logRecords)
			if !test.signals.Metrics {
				return
			}
			closes := uint64(0)
			for key, p := range w.collect(t, 10*second).points {
				if strings.Contains(key, " tapio.tcp.connection.duration ") {
					closes += p.count
				}
			}
			assert.EqualValues(t, 2, closes)
		})
	}
}
