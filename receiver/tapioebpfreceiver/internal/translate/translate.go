// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/ledger"
)

// Signals are those that a consumer is there for; the others are not built.
type Signals struct {
	Traces, Metrics, Logs bool
}

// Options of a Translator.
type Options struct {
	Signals     Signals
	Describe    Describe
	Start       pcommon.Timestamp // when counting began
	SeriesLimit int               // of each of a family's tables of metrics
	Processes   bool              // processes are followed to their end, so that they can be counted
	HTTP        HTTPOptions
	DNSTimeout  time.Duration // how long a query may go unanswered
	MaxWaiting  int           // records that may wait for the names of their pods
	Security    SecurityOptions
	Etcd        EtcdOptions
	// Correlation says how long spans wait for others, and who else may see their other ends.
	Correlation correlate.Options
	// Released, if set, is called after each record or span that has waited: there may be many at a time.
	Released func()
	Naming   *Naming // counts records of pods; nil: nobody wants to know
}

// Translator turns records into batches and metrics.
type Translator struct {
	signals  Signals
	index    *identity.Index
	ids      *correlate.IDs
	ledger   *ledger.Ledger
	bootTime int64 // when CLOCK_BOOTTIME was 0, ns since 1970

	builder   builder
	list      attributeList // used again and again
	times     timeFormatter
	addresses addressNames
	peers     peerNames
	waiting   *waiting
	naming    *Naming
	http      httpReader
	servers   servers
	metrics   metrics
	lookups   *lookups
	security  *security
	cni       *operations
	etcd      etcd
	traces    *correlate.Traces
	names     *correlate.Addresses
	held      uint64 // events whose spans wait for their place, but for those of lookups
	freeHeld  []*heldSpan
	hurry     bool
}

// New returns a Translator. SetBootTime must be called before the first record.
func New(options Options, index *identity.Index, ids *correlate.IDs, account *ledger.Ledger) *Translator {
	t := &Translator{
		signals:   options.Signals,
		index:     index,
		ids:       ids,
		ledger:    account,
		builder:   newBuilder(options.Describe),
		addresses: addressNames{},
		peers:     newPeerNames(index),
		waiting:   newWaiting(options),
		naming:    cmp.Or(options.Naming, &Naming{}),
		http:      newHTTPReader(options.HTTP),
		servers:   newServers(),
		metrics:   newMetrics(options),
		traces:    correlate.NewTraces(options.Correlation, ids),
		names:     correlate.NewAddresses(),
		etcd:      newEtcd(options.Etcd),
	}
	t.lookups = newLookups(t, options)
	t.security = newSecurity(t, options.Security)
	t.cni = newOperations(t)
	return t
}

// Hurry says whether what is handled from now on has to take less time, as events would be lost else: HTTP exchanges, and
// connections that opened and ended well, have neither spans nor log records then, if they are in metrics. These have all of
// them in any case.
func (t *Translator) Hurry(hurry bool) { t.hurry = hurry }

func (t *Translator) leavesUntold() bool { return t.hurry && t.signals.Metrics }

// Local notes that an address is this node's, before it is seen in a record.
func (t *Translator) Local(address netip.Addr) { t.traces.Local(address.Unmap()) }

// clockNoise is how far two measurements of the same clocks may lie apart, ns.
const clockNoise = 100_000

// SetBootTime sets what CLOCK_BOOTTIME 0 is in ns since 1970. A measurement that differs by no more
// than noise is not taken over, so that a process's start is the same time in all of its records.
func (t *Translator) SetBootTime(ns int64) {
	if difference := ns - t.bootTime; difference > clockNoise || difference < -clockNoise {
		t.bootTime = ns
	}
}

// wall turns CLOCK_BOOTTIME into time since 1970.
func (t *Translator) wall(boot uint64) pcommon.Timestamp {
	return pcommon.Timestamp(t.bootTime + int64(boot))
}

// outcome is what a record led to.
type outcome uint8

const (
	absorbed outcome = iota // it is in metrics and state only
	carried                 // it is in the batch
	excluded                // it is not in scope, or in no signal that is wired
	held                    // it waits for others, or has ended with them
)

// Handle translates one record, unless it has to wait. Its event is in the ledger at once, unless it
// ends with the batch.
func (t *Translator) Handle(record []byte) {
	header, err := event.DecodeHeader(record)
	if err != nil {
		t.ledger.Add(event.FamilyOther, ledger.LostUndecodable, 1)
		return
	}
	for t.waits(header, record) {
		if !t.waiting.isFull() {
			t.waiting.add(header, record)
			return
		}
		t.makeRoom()
	}
	t.handle(header, record)
}

func (t *Translator) handle(header *event.Header, record []byte) {
	family := event.Type(header.Type).Family()
	result, err := t.translate(event.Type(header.Type), record)
	if t.index.HasNames() && family != event.FamilyCgroup && err == nil {
		t.naming.handled(t.index.KnowledgeOf(header))
	}
	switch {
	case err != nil:
		t.ledger.Add(family, ledger.LostUndecodable, 1)
	case result != held: // the count is kept where it is held
		t.account(family, 1, result)
	}
}

// account for events that are held no longer, or never were. Those in the batch end with it.
func (t *Translator) account(family event.Family, events uint64, result outcome) {
	switch result {
	case carried:
		batch := t.builder.current()
		batch.Counts[family] += events
		batch.Events += int(events)
	case excluded:
		t.ledger.Add(family, ledger.Filtered, events)
	default:
		t.ledger.Add(family, ledger.Aggregated, events)
	}
}

func (t *Translator) translate(kind event.Type, record []byte) (outcome, error) {
	switch kind {
	case event.TypeProcessExec:
		return t.processExec(record)
	case event.TypeProcessFork:
		return t.processFork(record)
	case event.TypeProcessExit:
		return t.processExit(record)
	case event.TypeProcessOOMKill:
		return t.processOOMKill(record)
	case event.TypeConnectionConnect:
		return t.connectionConnect(record)
	case event.TypeConnectionClose, event.TypeConnectionReport:
		return t.connectionStats(kind, record)
	case event.TypeTLSHandshake:
		return t.tlsHandshake(record)
	case event.TypeHTTPExchange:
		return t.httpExchange(record)
	case event.TypeDNSMessage, event.TypeDNSSegment:
		return t.dnsMessage(kind, record)
	case event.TypeSecurityAction:
		return t.securityAction(record)
	case event.TypeCNIBegan:
		return t.cniBegan(record)
	case event.TypeCNIEnded:
		return t.cniEnded(record)
	case event.TypeCNINetnsMade, event.TypeCNINetnsRemoved:
		return t.cniNamespace(kind, record)
	case event.TypeEtcdCall:
		return t.etcdCall(record)
	case event.TypeEtcdChange:
		return t.etcdChange(record)
	case event.TypeThrottling:
		return t.throttling(record)
	case event.TypeHTTPSum:
		return t.httpSum(record)
	case event.TypeConnectionSum:
		return t.connectionSum(record)
	case event.TypeProcessSum:
		return t.processSum(record)
	case event.TypeTLSSum:
		return t.tlsSum(record)
	case event.TypeCgroupMade, event.TypeCgroupRemoved, event.TypeCgroupJoined:
		return t.cgroupChange(kind, record)
	default:
		return absorbed, fmt.Errorf("%w: type %#x is not known", event.ErrUndecodable, uint16(kind))
	}
}

// Events in the batch so far.
func (t *Translator) Events() int {
	if t.builder.batch == nil {
		return 0
	}
	return t.builder.batch.Events
}

// Empty says that there is nothing to take. What is there may have ended with an event before.
func (t *Translator) Empty() bool { return t.builder.batch == nil }

// Held is how many events wait, for others or for the names of their pods.
func (t *Translator) Held() int {
	return int(t.held+t.lookups.held+t.security.folds.held+t.cni.held+t.waiting.summed) + len(t.waiting.records)
}

// Tick ends what was waited for in vain. All records older than now, ns since boot, must have been handled, but
// for those that wait themselves.
func (t *Translator) Tick(now uint64) {
	if oldest, ok := t.waiting.oldest(); ok {
		now = min(now, oldest)
	}
	t.lookups.tick(now)
	t.traces.Tick(now)
	t.security.tick(now)
	t.cni.tick(now)
}

// Flush ends what waits for nothing but further records, or names, when there are none. What has not
// ended by itself stays as it is.
func (t *Translator) Flush() {
	t.releaseIf(func(*event.Header) bool { return true })
	t.lookups.searches.Flush()
	t.traces.Flush()
	t.security.flush()
	t.cni.flush()
}

// Take ends the batch and returns it; nil if it is empty.
func (t *Translator) Take() *Batch { return t.builder.take() }

// Metrics returns what the metrics are now; false if there are none.
func (t *Translator) Metrics(now pcommon.Timestamp) (pmetric.Metrics, bool) {
	return t.metrics.collect(now, t.index)
}

// outcomeIf is an event's outcome if the signals that show it are wired, or are not.
func (t *Translator) outcomeIf(wired bool) outcome {
	switch {
	case wired:
		return carried
	case t.signals.Metrics:
		return absorbed
	default:
		return excluded
	}
}

// log begins a log record of an event.
func (t *Translator) log(r *identity.Resource, name string, time pcommon.Timestamp, severity plog.SeverityNumber) plog.LogRecord {
	record := t.builder.record(r)
	fillLog(record, name, time, severity)
	return record
}

func fillLog(record plog.LogRecord, name string, time pcommon.Timestamp, severity plog.SeverityNumber) {
	record.SetEventName(name)
	record.SetTimestamp(time)
	record.SetObservedTimestamp(time)
	record.SetSeverityNumber(severity)
	record.SetSeverityText(severity.String())
}
