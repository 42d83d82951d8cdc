// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package tapioebpfreceiver // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver"

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.uber.org/zap"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/correlate"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/metadata"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/kernel"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"
)

// housekeepingInterval is how often the clock is measured again and old processes are forgotten.
const housekeepingInterval = time.Second

// At each cleaning a share of the living processes is looked up in /proc, about 20 us each.
const (
	minChecks   = 32
	checkRounds = 16
)

// settleTime is how long, after the programs were detached, those that are still running on other
// CPUs may take to hand in their last record.
const settleTime = time.Second

// reader is the one goroutine that owns all state: it reads the records, and everything up to the
// finished batch happens in it, without a lock on the way.
type reader struct {
	receiver   *tapioReceiver
	source     source.Source
	translator *translate.Translator
	index      *identity.Index

	batchBegan   time.Time
	lastMetrics  uint64 // ns since boot, as is lastCleaning
	lastCleaning uint64

	stopping atomic.Bool
	done     sync.WaitGroup

	active atomic.Int64           // processes, for /stats
	failed atomic.Pointer[string] // why reading ended, if it did
}

func newReader(r *tapioReceiver) (*reader, error) {
	hostName, nodeName, err := r.hostAndNode()
	if err != nil {
		return nil, err
	}
	http, err := r.config.httpOptions()
	if err != nil {
		return nil, err
	}
	reader := &reader{
		receiver: r,
		source:   r.source,
		index:    identity.NewIndex(identity.Options{Resolver: r.source, Names: r.names(), Wait: r.config.Identity.PodTimeout}),
	}
	reader.translator = translate.New(translate.Options{
		Signals: translate.Signals{
			Traces:  r.next.traces != nil,
			Metrics: r.next.metrics != nil,
			Logs:    r.next.logs != nil,
		},
		Describe: translate.Describe{
			Source:       r.source.Name(),
			ReplaySource: replaySourceOf(r.source),
			HostName:     hostName,
			NodeName:     nodeName,
			ScopeName:    metadata.ScopeName,
			ScopeVersion: r.set.BuildInfo.Version,
		},
		Start:       pcommon.NewTimestampFromTime(r.source.Wall()),
		SeriesLimit: r.config.Metrics.SeriesLimit,
		Processes:   r.config.Families.Process.HasValue(),
		HTTP:        http,
		Security:    r.config.securityOptions(),
		Etcd:        r.config.etcdOptions(),
		DNSTimeout:  dnsTimeout(r.config),
		MaxWaiting:  r.config.Identity.MaxWaiting,
		Correlation: r.config.Correlation.options(&r.givenUp),
		Released:    reader.sendIfFull,
		Naming:      &r.naming,
	}, reader.index, correlate.NewIDs(), &r.ledger)
	return reader, nil
}

// hostAndNode are the names of what is observed. In a pod the host's own name is not to be had, and the
// node's is as good; where the records are of another host, its name is with them.
func (r *tapioReceiver) hostAndNode() (host, node string, err error) {
	if node, err = nodeOf(r.config, r.source); node != "" || err != nil {
		return node, node, err
	}
	host, err = r.source.HostName()
	return host, "", err
}

func (r *reader) start() {
	if r.source.Name() == kernel.Name {
		r.learnAddresses()
	}
	r.done.Go(r.run)
}

// learnAddresses of this host: a client's may be one of them where it is translated. In a pod these are the
// pod's, and all that is known.
func (r *reader) learnAddresses() {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		r.receiver.set.Logger.Warn("The addresses of this host cannot be told; those that are seen are known", zap.Error(err))
		return
	}
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			r.translator.Local(prefix.Addr())
		}
	}
}

// stop returns when all that was seen is translated and in the sender's queue.
func (r *reader) stop() {
	r.stopping.Store(true)
	r.done.Wait()
}

func (r *reader) run() {
	r.clean(r.source.Boot()) // sets the clock
	r.translator.Refresh(r.source.Boot())
	r.index.LoadCgroups(r.source.Cgroups())
	r.index.Load(r.source.Processes())
	for !r.stopping.Load() {
		began := r.source.Boot()
		if err := r.source.Read(r.take); err != nil {
			r.fail(err)
			return
		}
		r.translator.Refresh(r.source.Boot())
		r.translator.Tick(began)
		r.turn(r.source.Boot())
	}
	r.finish()
}

// dnsTimeout is 0 where there will be no queries.
func dnsTimeout(c *Config) time.Duration {
	if dns := c.Families.DNS.Get(); dns != nil {
		return dns.Timeout
	}
	return 0
}

// turn is what is done beside the records, of whose time now is.
func (r *reader) turn(now uint64) {
	r.active.Store(int64(r.index.Active()))
	if now-r.lastCleaning >= uint64(housekeepingInterval) {
		r.clean(now)
	}
	if now-r.lastMetrics >= uint64(r.receiver.config.Metrics.Interval) {
		r.sendMetrics(now)
	}
	r.sendIfDue(time.Now())
}

func (r *reader) clean(now uint64) {
	r.lastCleaning = now
	bootTime, err := r.source.BootTime()
	if err != nil {
		r.receiver.set.Logger.Warn("The clock cannot be measured; times stay as they were", zap.Error(err))
		return
	}
	r.translator.SetBootTime(bootTime)
	r.index.Expire(now)
	r.index.Check(max(minChecks, r.index.Active()/checkRounds), r.source.Gone, now)
}

// take translates a record; a batch that is full goes out at once.
func (r *reader) take(record []byte) {
	r.translator.Hurry(r.source.Behind())
	r.translator.Handle(record)
	r.sendIfFull()
}

func (r *reader) sendIfFull() {
	if r.translator.Events() >= r.receiver.config.Batch.MaxEvents {
		r.sendBatch()
	}
}

func (r *reader) sendIfDue(now time.Time) {
	if r.translator.Empty() {
		r.batchBegan = time.Time{}
		return
	}
	if r.batchBegan.IsZero() {
		r.batchBegan = now
	}
	if now.Sub(r.batchBegan) >= r.receiver.config.Batch.Timeout {
		r.sendBatch()
	}
}

func (r *reader) sendBatch() {
	r.batchBegan = time.Time{}
	if batch := r.translator.Take(); batch != nil {
		r.receiver.sender.send(batch, r.source.Patient())
	}
}

func (r *reader) sendMetrics(now uint64) {
	r.lastMetrics = now
	if r.receiver.next.metrics == nil {
		return
	}
	if metrics, ok := r.translator.Metrics(pcommon.NewTimestampFromTime(r.source.Wall())); ok {
		r.receiver.sender.sendMetrics(metrics)
	}
}

// finish detaches the programs and reads until every record that they made is there.
func (r *reader) finish() {
	if err := r.source.Stop(r.take); err != nil {
		r.receiver.set.Logger.Warn("Not every program could be detached", zap.Error(err))
	}
	for deadline := time.Now().Add(settleTime); ; {
		if err := r.source.Read(r.take); err != nil {
			r.fail(err)
			return
		}
		if r.allRead() || time.Now().After(deadline) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	r.sendRest()
}

// sendRest of what was read.
func (r *reader) sendRest() {
	r.translator.Flush()
	r.sendMetrics(r.source.Boot())
	r.sendBatch()
}

// allRead says that what is not at its end is in the batch, with the sender, or waits for others.
func (r *reader) allRead() bool {
	rows, err := r.receiver.ledger.Rows(r.source.Counters)
	if err != nil {
		return true
	}
	var inFlight uint64
	for _, row := range rows {
		inFlight += row.InFlight
	}
	return inFlight <= uint64(r.translator.Events()+r.translator.Held()+r.receiver.sender.waiting())
}

// fail ends reading. What was read goes out; what is made from then on would only fill the rings.
func (r *reader) fail(err error) {
	reason := fmt.Sprintf("reading events has ended: %v", err)
	r.failed.Store(&reason)
	err = errors.Join(fmt.Errorf("read events: %w", err), r.source.Stop(r.take))
	r.sendRest()
	r.receiver.set.Logger.Error("Events cannot be read any more: the collector will end", zap.Error(err))
	r.receiver.status.fail(err, r.receiver.started)
}
