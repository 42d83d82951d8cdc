// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/tapio-io/otelcol-tapio/bpf"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/event"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/identity"
	"github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/protocol/registry"
)

// EtcdOptions say what is told of etcd.
type EtcdOptions struct {
	// Enabled is false where connections are just anybody's.
	Enabled bool
	// Executables are the file names of its programs.
	Executables []string
	// Slow calls are told one by one; 0: all are.
	Slow time.Duration
	// ClientPorts and PeerPorts are those that it listens on.
	ClientPorts, PeerPorts []uint16
}

// etcd is what the translator knows of the family.
type etcd struct {
	options EtcdOptions
	texts   texts
	// clusters are the resources of those that are watched, by endpoints.
	clusters map[string]*identity.Resource
}

func newEtcd(options EtcdOptions) etcd {
	return etcd{options: options, texts: texts{}, clusters: map[string]*identity.Resource{}}
}

// --- files -----------------------------------------------------------------------------------------

// etcdCall: most are in metrics only; what was slow, or has failed, is told by itself.
func (t *Translator) etcdCall(record []byte) (outcome, error) {
	e, err := event.DecodeEtcdCall(record)
	if err != nil {
		return absorbed, err
	}
	p := t.index.Find(e.Header.Pid, e.Header.StartTime)
	r := t.index.ResourceOf(&e.Header, p)
	t.metrics.etcdCalled(r, &e, t.wall(e.Header.Time))
	name, severity := t.etcd.eventOf(&e)
	isTold := t.signals.Logs && name != ""
	if isTold {
		log := t.log(r, name, t.wall(e.Header.Time), severity)
		t.describeEtcdCall(&t.list, p, &e)
		t.list.moveTo(log.Attributes())
		if p != nil {
			setTraceContext(log, p)
		}
	}
	return t.outcomeIf(isTold), nil
}

// eventOf a call; empty: it is not told by itself.
func (x *etcd) eventOf(e *event.EtcdCall) (name string, severity plog.SeverityNumber) {
	isSync := event.EtcdOperation(e.Operation).IsSync()
	isSlow := time.Duration(e.Header.Time-e.Began) >= x.options.Slow
	switch {
	case e.Error != 0 && isSync:
		return eventEtcdFailedSync, plog.SeverityNumberError
	case e.Error != 0:
		return eventEtcdFailedWrite, plog.SeverityNumberError
	case isSlow && isSync:
		return eventEtcdSlowSync, plog.SeverityNumberWarn
	case isSlow:
		return eventEtcdSlowWrite, plog.SeverityNumberWarn
	default:
		return "", plog.SeverityNumberUnspecified
	}
}

func (t *Translator) describeEtcdCall(attributes *attributeList, p *identity.Process, e *event.EtcdCall) {
	t.putOwner(attributes, e.Header.Pid, p)
	attributes.PutStr(attrEtcdFileType, e.File().String())
	attributes.PutStr(attrEtcdCall, event.EtcdOperation(e.Operation).String())
	attributes.PutDouble(attrEtcdDuration, seconds(e.Header.Time-e.Began))
	attributes.putKnown(attrFileName, t.etcd.texts.of(e.Name))
	attributes.putKnown(attrEtcdFileDirectory, t.etcd.texts.of(e.Directory))
	attributes.PutStr(attrFileInode, strconv.FormatUint(e.Inode, 10))
	if !event.EtcdOperation(e.Operation).IsSync() && e.Error == 0 {
		attributes.PutInt(attrEtcdWriteSize, int64(e.Bytes))
	}
	attributes.putKnown(attrErrorType, event.ErrnoName(e.Error))
}

// --- connections -----------------------------------------------------------------------------------

// Values of tapio.etcd.connection.type.
const (
	etcdConnectionClient = "client"
	etcdConnectionPeer   = "peer"
)

// connectionOf a process says what a connection is to etcd, by the port that is listened on: this side's
// where it is the server; empty where it is not etcd's.
func (x *etcd) connectionOf(r *identity.Resource, ends *bpf.WireConnectionEnds) string {
	if !x.options.Enabled || ends.Protocol != event.ProtocolTCP || !slices.Contains(x.options.Executables, r.Name) {
		return ""
	}
	switch ends.Role {
	case event.RoleServer:
		return x.connectionTo(ends.LocalPort)
	case event.RoleClient:
		return x.connectionTo(ends.PeerPort)
	}
	if kind := x.connectionTo(ends.LocalPort); kind != "" {
		return kind
	}
	return x.connectionTo(ends.PeerPort)
}

func (x *etcd) connectionTo(port uint16) string {
	switch {
	case slices.Contains(x.options.ClientPorts, port):
		return etcdConnectionClient
	case slices.Contains(x.options.PeerPorts, port):
		return etcdConnectionPeer
	default:
		return ""
	}
}

// --- keys ------------------------------------------------------------------------------------------

// etcdChange: a key was made, changed or deleted, or it cannot be told any more which were.
func (t *Translator) etcdChange(record []byte) (outcome, error) {
	e, err := event.DecodeEtcdChange(record)
	if err != nil {
		return absorbed, err
	}
	r := t.etcd.cluster(e.Endpoints)
	object, isObject := registry.Parse(e.Key)
	t.metrics.etcdChanged(r, event.EtcdChangeKind(e.Kind), object.Resource, t.wall(e.Header.Time))
	if t.signals.Logs {
		t.tellEtcdChange(r, &e, object, isObject)
	}
	return t.outcomeIf(t.signals.Logs), nil
}

// cluster that is watched. There are as many as configurations: one.
func (x *etcd) cluster(endpoints []byte) *identity.Resource {
	if known, ok := x.clusters[string(endpoints)]; ok {
		return known
	}
	text := strings.ToValidUTF8(string(endpoints), "\uFFFD")
	cluster := identity.OfCluster(etcdService, strings.Split(text, ","))
	x.clusters[string(endpoints)] = cluster
	return cluster
}

func (t *Translator) tellEtcdChange(r *identity.Resource, e *event.EtcdChange, object registry.Object, isObject bool) {
	if event.EtcdChangeKind(e.Kind) == event.EtcdMissed {
		log := t.log(r, eventEtcdMissed, t.wall(e.Header.Time), plog.SeverityNumberWarn)
		t.list.PutInt(attrEtcdRevisionFirst, int64(e.Revision))
		t.list.PutInt(attrEtcdRevisionLast, int64(e.LastRevision))
		putCluster(&t.list, e)
		t.list.moveTo(log.Attributes())
		return
	}
	log := t.log(r, eventEtcdChange, t.wall(e.Header.Time), plog.SeverityNumberInfo)
	t.describeEtcdChange(&t.list, e, object, isObject)
	t.list.moveTo(log.Attributes())
}

func (t *Translator) describeEtcdChange(attributes *attributeList, e *event.EtcdChange, object registry.Object, isObject bool) {
	attributes.PutStr(attrEtcdChangeType, event.EtcdChangeKind(e.Kind).String())
	attributes.PutInt(attrEtcdRevision, int64(e.Revision))
	putCluster(attributes, e)
	attributes.PutStr(attrEtcdKey, t.etcd.texts.of(e.Key))
	if e.Flags&event.EtcdKeyTruncated != 0 {
		attributes.PutBool(attrEtcdKeyTruncated, true)
		return // its name would be another one's
	}
	if isObject {
		attributes.putKnown(attrEtcdObjectGroup, object.Group)
		attributes.PutStr(attrEtcdObjectResource, object.Resource)
		attributes.putKnown(attrK8sNamespaceName, object.Namespace)
		attributes.PutStr(attrEtcdObjectName, object.Name)
	}
}

func putCluster(attributes *attributeList, e *event.EtcdChange) {
	if e.ClusterId != 0 {
		attributes.PutStr(attrEtcdClusterID, strconv.FormatUint(e.ClusterId, 16))
	}
}
