// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package kube // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity/kube"

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/tools/cache"
)

// forgetInterval is how exactly a grace is kept.
const forgetInterval = time.Second

// Options say what is watched, and as whom.
type Options struct {
	// AuthType is AuthServiceAccount or AuthKubeConfig.
	AuthType string
	// Kubeconfig is a file; empty: the one that kubectl would read.
	Kubeconfig string
	// NodeName is this node's, as the API server has it.
	NodeName string
	// Services says whether the addresses of the cluster's Services get names.
	Services bool
	// EndpointSlices says whether the addresses behind Services that have none of their own get names, too.
	EndpointSlices bool
	// Labels and Annotations of pods to show.
	Labels      []string
	Annotations []string
	// ServiceNameLabels are those that name a pod's service, the first that the pod has.
	ServiceNameLabels []string
	// UserAgent is what the API server's logs say of who asked.
	UserAgent string
	// OnStatus is told when the API server can no longer be watched (why), and when it can again
	// (nil). It may be called from any goroutine, and must not wait for the watcher.
	OnStatus func(error)
	// OnSynced is called once, from a goroutine of the watcher, when everything was read for the first
	// time. That takes several times the memory of what is kept.
	OnSynced func()
}

// Watcher keeps what the API server says. All lookups are safe for any goroutine, take no lock and
// allocate nothing; what they return is never changed.
type Watcher struct {
	pods      *pods
	services  *services
	endpoints *services // of headless Services
	health    *health
	version   atomic.Uint64

	informers []cache.SharedIndexInformer
	handlers  []cache.ResourceEventHandlerRegistration
	onSynced  func()
	clients   *clients
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// Status is how the watcher does.
type Status struct {
	// Synced says that everything was read at least once.
	Synced bool
	// Pods of this node that are known, with those that are gone since a moment.
	Pods int
	// ServiceAddresses are known, those of endpoints among them.
	ServiceAddresses int
	// Err says why the API server is not being watched; nil: it is, or has not been asked yet.
	Err error
}

// New makes a watcher. It fails where the configuration cannot be used, as when a file is missing; the
// API server is not asked yet.
func New(options Options, logger *zap.Logger) (*Watcher, error) {
	clients, err := newClients(&options)
	if err != nil {
		return nil, err
	}
	if options.OnStatus == nil {
		options.OnStatus = func(error) {}
	}
	if options.OnSynced == nil {
		options.OnSynced = func() {}
	}
	w := &Watcher{
		onSynced: options.OnSynced,
		health:   &health{logger: logger, onChange: options.OnStatus, failing: map[string]error{}},
		clients:  clients,
		stop:     func() {},
	}
	w.pods = newPods(options.NodeName, w.changed)
	w.services, w.endpoints = newServices(w.changed), newServices(w.changed)
	if err := w.watch(&options); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *Watcher) watch(options *Options) error {
	reader := &podReader{
		labels: options.Labels, annotations: options.Annotations, serviceNameLabels: options.ServiceNameLabels,
	}
	ofThisNode := fields.OneTermEqualSelector("spec.nodeName", options.NodeName)
	pods := cache.NewListWatchFromClient(w.clients.core, "pods", metav1.NamespaceAll, ofThisNode)
	err := w.add("pods", pods, &corev1.Pod{}, reader.transform, w.pods)
	if err == nil && options.Services {
		all := cache.NewListWatchFromClient(w.clients.core, "services", metav1.NamespaceAll, fields.Everything())
		err = w.add("services", inPages(all, transformService), &corev1.Service{}, transformService, w.services)
	}
	if err == nil && options.EndpointSlices {
		headless := cache.NewFilteredListWatchFromClient(w.clients.discovery, "endpointslices", metav1.NamespaceAll, ofHeadlessServices)
		err = w.add("endpointslices", inPages(headless, transformEndpointSlice), &discoveryv1.EndpointSlice{}, transformEndpointSlice, w.endpoints)
	}
	return err
}

func (w *Watcher) add(
	resource string, source *cache.ListWatch, example runtime.Object,
	transform cache.TransformFunc, handler cache.ResourceEventHandler,
) error {
	informer := cache.NewSharedIndexInformerWithOptions(w.health.watched(resource, source), example, cache.SharedIndexInformerOptions{})
	if err := informer.SetTransform(transform); err != nil {
		return fmt.Errorf("watch %s: %w", resource, err)
	}
	if err := informer.SetWatchErrorHandlerWithContext(w.health.watchEnded); err != nil {
		return fmt.Errorf("watch %s: %w", resource, err)
	}
	registration, err := informer.AddEventHandler(handler)
	if err != nil {
		return fmt.Errorf("watch %s: %w", resource, err)
	}
	w.informers, w.handlers = append(w.informers, informer), append(w.handlers, registration)
	return nil
}

// Start begins to watch and returns at once: whether the API server answers is in Status.
func (w *Watcher) Start() {
	// The library's own log would go to the standard error, past the Collector's.
	ctx, cancel := context.WithCancel(logr.NewContext(context.Background(), logr.Discard()))
	w.stop = cancel
	for _, informer := range w.informers {
		w.running.Go(func() { informer.RunWithContext(ctx) })
	}
	w.running.Go(func() { w.forget(ctx) })
	w.running.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), w.isSynced) {
			w.onSynced()
		}
	})
}

func (w *Watcher) isSynced() bool {
	return !slices.ContainsFunc(w.handlers, func(h cache.ResourceEventHandlerRegistration) bool { return !h.HasSynced() })
}

// forget lets go of those that are gone, when their time has come.
func (w *Watcher) forget(ctx context.Context) {
	ticker := time.NewTicker(forgetInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.pods.forget()
		}
	}
}

// Shutdown ends the watching. What is known can still be looked up.
func (w *Watcher) Shutdown() {
	w.stop()
	w.running.Wait()
	utilnet.CloseIdleConnectionsFor(w.clients.connections.Transport)
}

func (w *Watcher) changed() { w.version.Add(1) }

// Version changes with every change of what is known.
func (w *Watcher) Version() uint64 { return w.version.Load() }

// Changes visits the UIDs of pods, and the ids of containers, that have other names than when it was called
// last, or have any at last; what was forgotten is not among them. It returns true, and visits nothing, where
// it may be any. Only one goroutine may call it.
func (w *Watcher) Changes(visit func(id string)) (isAny bool) { return w.pods.changes.take(visit) }

// Pod of this node by its UID, or by what the kubelet has in place of it for a static pod; nil: it is
// not known, or not yet. One that is gone stays for a minute.
func (w *Watcher) Pod(uid string) *Pod { return w.pods.get(uid) }

// Container of a pod of this node by its id, without the runtime's prefix; nil, nil: it is not known,
// or not yet. The kubelet tells the id some time after the container has started, and never that of
// the pod's sandbox. One that is gone or was restarted stays for a minute.
func (w *Watcher) Container(id string) (*Pod, *Container) {
	if entry := w.pods.byContainer.get(id); entry != nil {
		return entry.pod, entry.container
	}
	return nil, nil
}

// Peer is who has an address: a pod of this node, else the node itself, else a Service, by its own address or as
// one of its endpoints. Pods in the node's network have the node's address. One that several Services share has
// no name.
func (w *Watcher) Peer(address netip.Addr) Peer {
	address = address.Unmap().WithZone("")
	if peer := w.pods.peer(address); peer.Kind != PeerNone {
		return peer
	}
	if peer := w.services.peer(address); peer.Kind != PeerNone {
		return peer
	}
	return w.endpoints.peer(address)
}

// Status may be called from any goroutine.
func (w *Watcher) Status() Status {
	return Status{
		Synced:           w.isSynced(),
		Pods:             int(w.pods.byUID.size.Load()),
		ServiceAddresses: int(w.services.byAddress.size.Load() + w.endpoints.byAddress.size.Load()),
		Err:              w.health.err(),
	}
}
