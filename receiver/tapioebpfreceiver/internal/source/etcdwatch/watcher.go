// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package etcdwatch // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/source/etcdwatch"

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/status"

	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
)

// Options of a watch.
type Options struct {
	// Endpoints of one cluster: host:port, or with http:// or https://.
	Endpoints []string
	// Prefix of the keys; not empty.
	Prefix string
	// TLS is nil where the connection is not encrypted.
	TLS *tls.Config
	// Username and Password of etcd's own; empty: none.
	Username, Password string
	// QueueSize is how many changes may wait for the reader. What is more is lost, and counted.
	QueueSize int
}

// Status is how a watch does.
type Status struct {
	// Revision up to which all changes are known; 0: etcd has not been reached yet.
	Revision int64
	// Err says why etcd is not being watched; nil: it is, or has not answered yet.
	Err error
}

const (
	// maxKey is how much of a key is kept, bytes. Those of Kubernetes are shorter.
	maxKey = 1024
	// answerIn is how long etcd may take to answer a question.
	answerIn = 5 * time.Second
	// askEvery is how often it is asked whether it is there: the client waits in silence for one that is not.
	askEvery = 10 * time.Second

	// tellEvery is how often another reason of the same trouble is told: some differ at each attempt.
	tellEvery = time.Minute

	firstRetry = time.Second
	lastRetry  = 10 * time.Second
	// lastConnect is how long after the failure of a connection the next one is tried at the latest.
	lastConnect = 15 * time.Second

	// pingEvery finds out that the other side of a connection has gone without a word. Servers refuse pings that
	// come more often than each 5 s (--grpc-keepalive-min-time).
	pingEvery   = 30 * time.Second
	pingTimeout = 10 * time.Second
)

// change of a key, without what is in it.
type change struct {
	kind         event.EtcdChangeKind
	time         time.Time // when it was heard of: etcd keeps no time
	revision     int64     // EtcdMissed: the first of those that were
	lastRevision int64     // EtcdMissed: the last; else 0
	cluster      uint64
	key          []byte
	isTruncated  bool
}

// watcher follows the changes. All but the atomics, the queue and the status belongs to its one goroutine.
type watcher struct {
	options  Options
	logger   *zap.Logger
	onStatus func(error)

	next    int64  // the first revision that is not known; 0: nothing is known yet
	cluster uint64 // whose that is

	queue           chan change   // read by the source's reader
	seen, queueFull atomic.Uint64 // changes in all, and those for which the queue had no room
	known           atomic.Int64  // next-1, for the status

	told   string    // the reason that was told last
	toldAt time.Time // when it was

	mu      sync.Mutex
	trouble error
}

func newWatcher(options Options, logger *zap.Logger) *watcher {
	return &watcher{options: options, logger: logger, queue: make(chan change, options.QueueSize)}
}

// start returns what ends it.
func (w *watcher) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

var (
	errCompacted    = errors.New("etcd has forgotten the revisions that were to come next")
	errOtherHistory = errors.New("etcd has another history than before: the cluster was replaced, or restored from a backup")
	errEnded        = errors.New("the watch has ended")
)

// run follows until ctx ends. However a watch ends, there is time between it and the next one.
func (w *watcher) run(ctx context.Context) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = firstRetry, lastRetry
	for {
		began := time.Now()
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errCompacted) {
			w.report(err)
		}
		if time.Since(began) > lastRetry {
			retry.Reset()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry.NextBackOff()):
		}
	}
}

// follow connects and takes in changes until that goes wrong.
func (w *watcher) follow(ctx context.Context) error {
	client, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	header, err := w.ask(ctx, client)
	if err != nil {
		return err
	}
	w.begin(header)
	return w.watch(ctx, client)
}

// connect has the client show who it is, if it is to. It is asked for an answer without that first, since then
// the reason why there is none is at hand.
func (w *watcher) connect(ctx context.Context) (*clientv3.Client, error) {
	config := clientv3.Config{
		Context:              ctx,
		Endpoints:            w.options.Endpoints,
		TLS:                  w.options.TLS,
		DialTimeout:          answerIn,
		DialKeepAliveTime:    pingEvery,
		DialKeepAliveTimeout: pingTimeout,
		Logger:               zap.NewNop(), // what goes wrong is told once, by report
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: firstRetry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastConnect},
			MinConnectTimeout: answerIn,
		})},
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for etcd: %w", err)
	}
	if w.options.Username == "" {
		return client, nil
	}
	defer client.Close()
	if _, err := w.ask(ctx, client); isUnreachable(err) {
		return nil, err
	}
	config.Username, config.Password = w.options.Username, w.options.Password
	if client, err = clientv3.New(config); err != nil {
		return nil, fmt.Errorf("authenticate at etcd as %q: %w", w.options.Username, err)
	}
	return client, nil
}

// ask for the present revision, with no more rights than the watch itself needs, and not by the client's own
// method, which waits for a connection and does not tell why there is none.
func (w *watcher) ask(ctx context.Context, client *clientv3.Client) (*etcdserverpb.ResponseHeader, error) {
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	request := &etcdserverpb.RangeRequest{Key: []byte(w.options.Prefix), KeysOnly: true, Limit: 1}
	response, err := etcdserverpb.NewKVClient(client.ActiveConnection()).Range(ctx, request)
	if err != nil {
		return nil, askError{status.Convert(err)}
	}
	return response.Header, nil
}

// begin where it was left, or from now on. Where the history is another one, its revisions say nothing of those that
// were to come: the last one that was missed is its present one, which may be below the first.
func (w *watcher) begin(header *etcdserverpb.ResponseHeader) {
	isOther := w.next != 0 && !w.isSameHistory(header)
	w.cluster = header.ClusterId
	if isOther {
		w.logger.Warn("Changes in etcd may have been missed", zap.Error(errOtherHistory), zap.Int64("last_revision", w.next-1), zap.Int64("revision", header.Revision))
		w.handMissed(header.Revision)
	}
	if isOther || w.next == 0 {
		w.knows(header.Revision)
	}
}

func (w *watcher) isSameHistory(header *etcdserverpb.ResponseHeader) bool {
	return header.ClusterId == w.cluster && header.Revision >= w.next-1
}

// knows that all up to a revision was heard of.
func (w *watcher) knows(revision int64) {
	w.next = revision + 1
	w.known.Store(revision)
}

func (w *watcher) watch(ctx context.Context, client *clientv3.Client) error {
	// canceled by etcd where a member is cut off from the others, and would go on without a word
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	responses := client.Watch(ctx, w.options.Prefix,
		clientv3.WithPrefix(), clientv3.WithRev(w.next), clientv3.WithFragment(), clientv3.WithProgressNotify(), clientv3.WithCreatedNotify())
	answers := w.askRegularly(ctx, client)
	for {
		select {
		case response, isOpen := <-responses:
			if !isOpen {
				return errEnded
			}
			if err := w.take(&response); err != nil {
				return err
			}
		case a := <-answers:
			if a.err == nil && a.asked == w.next && !w.isSameHistory(a.header) {
				return errOtherHistory
			}
			if ctx.Err() == nil {
				w.report(a.err) // the client goes on by itself when it can
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answer to the question for the present revision.
type answer struct {
	asked  int64 // what next was then
	header *etcdserverpb.ResponseHeader
	err    error
}

// askRegularly until ctx ends, more often where there was no answer.
func (w *watcher) askRegularly(ctx context.Context, client *clientv3.Client) <-chan answer {
	answers := make(chan answer)
	go func() {
		for pause := askEvery; ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			a := answer{asked: w.known.Load() + 1}
			a.header, a.err = w.ask(ctx, client)
			pause = askEvery
			if a.err != nil {
				pause = firstRetry
			}
			select {
			case <-ctx.Done():
				return
			case answers <- a:
			}
		}
	}()
	return answers
}

// take in what etcd tells. The values that it always sends are let go here.
func (w *watcher) take(response *clientv3.WatchResponse) error {
	if response.CompactRevision > 0 {
		w.miss(response.CompactRevision)
		return errCompacted
	}
	if err := response.Err(); err != nil {
		return fmt.Errorf("watch %q in etcd: %w", w.options.Prefix, err)
	}
	if response.Created {
		w.report(nil)
		return nil // its revision is the present one, and what is before it is still to come
	}
	now := time.Now()
	for _, e := range response.Events {
		c := change{kind: kindOf(e), time: now, revision: e.Kv.ModRevision, cluster: w.cluster}
		c.isTruncated = len(e.Kv.Key) > maxKey
		c.key = bytes.Clone(e.Kv.Key[:min(len(e.Kv.Key), maxKey)])
		w.hand(c)
	}
	switch n := len(response.Events); {
	case n > 0:
		w.knows(response.Events[n-1].Kv.ModRevision)
	case response.IsProgressNotify():
		w.knows(max(w.next-1, response.Header.Revision))
	}
	return nil
}

func kindOf(e *clientv3.Event) event.EtcdChangeKind {
	switch {
	case e.Type == clientv3.EventTypeDelete:
		return event.EtcdDeleted
	case e.IsCreate():
		return event.EtcdCreated
	default:
		return event.EtcdUpdated
	}
}

// miss the changes up to the revision below which etcd has forgotten all that is not the latest. Of that one
// itself it still tells what was written, but not what was deleted.
func (w *watcher) miss(compacted int64) {
	w.logger.Warn("Changes in etcd were missed: it was away for too long, or is compacted too soon",
		zap.Int64("first_revision", w.next), zap.Int64("last_revision", compacted))
	w.handMissed(compacted)
	w.knows(max(w.next, compacted-1))
}

func (w *watcher) handMissed(last int64) {
	w.hand(change{kind: event.EtcdMissed, time: time.Now(), revision: w.next, lastRevision: last, cluster: w.cluster})
}

// hand a change to the reader, if there is room.
func (w *watcher) hand(c change) {
	w.seen.Add(1)
	select {
	case w.queue <- c:
	default:
		w.queueFull.Add(1)
	}
}

// report what goes wrong, or nil. Only a change is told: an etcd that is away for hours is in the log once for each
// reason why it cannot be watched.
func (w *watcher) report(err error) {
	w.mu.Lock()
	before := w.trouble
	w.trouble = err
	w.mu.Unlock()
	switch {
	case err != nil && (before == nil || w.isNews(err)):
		w.told, w.toldAt = err.Error(), time.Now()
		w.logger.Warn("etcd cannot be watched; it is tried again, and what changes meanwhile is told then", zap.Strings("endpoints", w.options.Endpoints), zap.Error(err))
		w.onStatus(err)
	case err == nil && before != nil:
		w.logger.Info("etcd is watched again", zap.Strings("endpoints", w.options.Endpoints), zap.Int64("revision", w.known.Load()))
		w.onStatus(nil)
	}
}

// isNews says that there is another reason than the one that was told. It is reported again at each attempt, so one
// that comes too soon is told later.
func (w *watcher) isNews(err error) bool {
	return err.Error() != w.told && time.Since(w.toldAt) >= tellEvery
}

func (w *watcher) status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Status{Revision: w.known.Load(), Err: w.trouble}
}
