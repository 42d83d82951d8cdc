// Copyright The otelcol-tapio Authors
// SPDX-License-Identifier: Apache-2.0

// Package translate turns events into pdata: spans, log records and metric points.
//
// It belongs to the one goroutine that reads the records; nothing in it is locked.
package translate // import "github.com/tapio-io/otelcol-tapio/receiver/tapioebpfreceiver/internal/translate"

import semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

// SchemaURL is that of the semantic conventions whose names are used here.
const SchemaURL = semconv.SchemaURL

// Attributes of the semantic conventions.
const (
	attrServiceName          = string(semconv.ServiceNameKey)
	attrServiceNamespace     = string(semconv.ServiceNamespaceKey)
	attrServiceVersion       = string(semconv.ServiceVersionKey)
	attrServiceInstanceID    = string(semconv.ServiceInstanceIDKey)
	attrServicePeerName      = string(semconv.ServicePeerNameKey)
	attrServicePeerNamespace = string(semconv.ServicePeerNamespaceKey)
	attrHostName             = string(semconv.HostNameKey)
	attrOSType               = string(semconv.OSTypeKey)

	attrContainerID               = string(semconv.ContainerIDKey)
	attrContainerRuntimeName      = string(semconv.ContainerRuntimeNameKey)
	attrContainerImageName        = string(semconv.ContainerImageNameKey)
	attrContainerImageTags        = string(semconv.ContainerImageTagsKey)
	attrContainerImageID          = string(semconv.ContainerImageIDKey)
	attrContainerImageRepoDigests = string(semconv.ContainerImageRepoDigestsKey)

	attrK8sPodUID                = string(semconv.K8SPodUIDKey)
	attrK8sPodName               = string(semconv.K8SPodNameKey)
	attrK8sNamespaceName         = string(semconv.K8SNamespaceNameKey)
	attrK8sNodeName              = string(semconv.K8SNodeNameKey)
	attrK8sContainerName         = string(semconv.K8SContainerNameKey)
	attrK8sContainerRestartCount = string(semconv.K8SContainerRestartCountKey)
	attrK8sDeploymentName        = string(semconv.K8SDeploymentNameKey)
	attrK8sDeploymentUID         = string(semconv.K8SDeploymentUIDKey)
	attrK8sReplicaSetName        = string(semconv.K8SReplicaSetNameKey)
	attrK8sReplicaSetUID         = string(semconv.K8SReplicaSetUIDKey)
	attrK8sStatefulSetName       = string(semconv.K8SStatefulSetNameKey)
	attrK8sStatefulSetUID        = string(semconv.K8SStatefulSetUIDKey)
	attrK8sDaemonSetName         = string(semconv.K8SDaemonSetNameKey)
	attrK8sDaemonSetUID          = string(semconv.K8SDaemonSetUIDKey)
	attrK8sCronJobName           = string(semconv.K8SCronJobNameKey)
	attrK8sCronJobUID            = string(semconv.K8SCronJobUIDKey)
	attrK8sJobName               = string(semconv.K8SJobNameKey)
	attrK8sJobUID                = string(semconv.K8SJobUIDKey)

	attrProcessPID              = string(semconv.ProcessPIDKey)
	attrProcessParentPID        = string(semconv.ProcessParentPIDKey)
	attrProcessVPID             = string(semconv.ProcessVpidKey)
	attrProcessExecutableName   = string(semconv.ProcessExecutableNameKey)
	attrProcessExecutablePath   = string(semconv.ProcessExecutablePathKey)
	attrProcessCommand          = string(semconv.ProcessCommandKey)
	attrProcessCommandArgs      = string(semconv.ProcessCommandArgsKey)
	attrProcessUserID           = string(semconv.ProcessUserIDKey)
	attrProcessRealUserID       = string(semconv.ProcessRealUserIDKey)
	attrProcessWorkingDirectory = string(semconv.ProcessWorkingDirectoryKey)
	attrProcessCreationTime     = string(semconv.ProcessCreationTimeKey)
	attrProcessExitCode         = string(semconv.ProcessExitCodeKey)
	attrProcessExitTime         = string(semconv.ProcessExitTimeKey)

	attrNetworkTransport    = string(semconv.NetworkTransportKey)
	attrNetworkType         = string(semconv.NetworkTypeKey)
	attrNetworkLocalAddress = string(semconv.NetworkLocalAddressKey)
	attrNetworkLocalPort    = string(semconv.NetworkLocalPortKey)
	attrNetworkPeerAddress  = string(semconv.NetworkPeerAddressKey)
	attrNetworkPeerPort     = string(semconv.NetworkPeerPortKey)
	attrNetworkIODirection  = string(semconv.NetworkIODirectionKey)
	attrNetworkInterface    = string(semconv.NetworkInterfaceNameKey)
	attrServerAddress       = string(semconv.ServerAddressKey)
	attrServerPort          = string(semconv.ServerPortKey)
	attrClientAddress       = string(semconv.ClientAddressKey)
	attrClientPort          = string(semconv.ClientPortKey)

	attrHTTPRequestMethod         = string(semconv.HTTPRequestMethodKey)
	attrHTTPRequestMethodOriginal = string(semconv.HTTPRequestMethodOriginalKey)
	attrHTTPRequestBodySize       = string(semconv.HTTPRequestBodySizeKey)
	attrHTTPResponseBodySize      = string(semconv.HTTPResponseBodySizeKey)
	attrHTTPResponseStatusCode    = string(semconv.HTTPResponseStatusCodeKey)
	attrHTTPRoute                 = string(semconv.HTTPRouteKey)
	attrURLFull                   = string(semconv.URLFullKey)
	attrURLPath                   = string(semconv.URLPathKey)
	attrURLQuery                  = string(semconv.URLQueryKey)
	attrURLScheme                 = string(semconv.URLSchemeKey)
	attrUserAgentOriginal         = string(semconv.UserAgentOriginalKey)
	attrNetworkProtocolName       = string(semconv.NetworkProtocolNameKey)
	attrNetworkProtocolVersion    = string(semconv.NetworkProtocolVersionKey)

	attrTLSProtocolName    = string(semconv.TLSProtocolNameKey)
	attrTLSProtocolVersion = string(semconv.TLSProtocolVersionKey)
	attrTLSCipher          = string(semconv.TLSCipherKey)
	attrTLSCurve           = string(semconv.TLSCurveKey)
	attrTLSNextProtocol    = string(semconv.TLSNextProtocolKey)
	attrTLSResumed         = string(semconv.TLSResumedKey)
	attrTLSEstablished     = string(semconv.TLSEstablishedKey)

	attrDNSQuestionName = string(semconv.DNSQuestionNameKey)
	attrDNSAnswers      = string(semconv.DNSAnswersKey)

	attrFileName    = string(semconv.FileNameKey)
	attrFilePath    = string(semconv.FilePathKey)
	attrFileInode   = string(semconv.FileInodeKey)
	attrFileMode    = string(semconv.FileModeKey)
	attrFileOwnerID = string(semconv.FileOwnerIDKey)
	attrFileGroupID = string(semconv.FileGroupIDKey)

	attrSecurityRuleName     = string(semconv.SecurityRuleNameKey)
	attrSecurityRuleCategory = string(semconv.SecurityRuleCategoryKey)

	attrErrorType      = string(semconv.ErrorTypeKey)
	attrMetricOverflow = "otel.metric.overflow" // OpenTelemetry metrics SDK, cardinality limits
)

// Attributes that the conventions lack; the receiver's README says why of each.
const (
	attrSource       = "tapio.source"
	attrReplaySource = "tapio.replay.source"
	attrSystemdUnit  = "tapio.systemd.unit"
	attrLink         = "tapio.link"

	attrPeerPodName       = "tapio.peer.k8s.pod.name"
	attrPeerNamespaceName = "tapio.peer.k8s.namespace.name"
	attrPeerServiceName   = "tapio.peer.k8s.service.name"
	attrPeerNodeName      = "tapio.peer.k8s.node.name"

	attrProcessExitSignal      = "tapio.process.exit.signal"
	attrProcessCPUTime         = "tapio.process.cpu.time"
	attrProcessMemoryPeak      = "tapio.process.memory.peak"
	attrProcessIOReadBytes     = "tapio.process.io.read_bytes"
	attrProcessIOWrittenBytes  = "tapio.process.io.written_bytes"
	attrProcessArgsTruncated   = "tapio.process.command_args.truncated"
	attrProcessExeUnlinked     = "tapio.process.executable.unlinked"
	attrNetworkRole            = "tapio.network.role"
	attrNetworkSentBytes       = "tapio.network.sent_bytes"
	attrNetworkReceivedBytes   = "tapio.network.received_bytes"
	attrNetworkSentPackets     = "tapio.network.sent_packets"
	attrNetworkReceivedPackets = "tapio.network.received_packets"
	attrNetworkDuration        = "tapio.network.duration"
	attrTCPRetransmits         = "tapio.tcp.retransmits"
	attrTCPRTT                 = "tapio.tcp.rtt"
	attrTCPReset               = "tapio.tcp.reset"
	attrTLSAlertCode           = "tapio.tls.alert.code"
	attrTLSAlertSender         = "tapio.tls.alert.sender"
	attrTLSRetried             = "tapio.tls.hello_retry"
	attrTLSDuration            = "tapio.tls.duration"
	attrHTTPTimeToFirstByte    = "tapio.http.time_to_first_byte"
	attrHTTPTargetTruncated    = "tapio.http.request.target.truncated"
	attrDNSQuestionType        = "tapio.dns.question.type"
	attrDNSOpcode              = "tapio.dns.opcode"
	attrDNSResponseCode        = "tapio.dns.response_code"
	attrDNSTruncated           = "tapio.dns.truncated"
	attrDNSRetries             = "tapio.dns.retries"
	attrDNSLookupAttempts      = "tapio.dns.lookup.attempts"
	attrDNSLookupWasted        = "tapio.dns.lookup.wasted_queries"

	attrSecurityTechnique    = "tapio.security.technique"
	attrSecurityOutcome      = "tapio.security.outcome"
	attrSecuritySeverity     = "tapio.security.severity"
	attrSecurityOperation    = "tapio.security.operation"
	attrSecurityAncestors    = "tapio.security.ancestors"
	attrSecurityCount        = "tapio.security.count"
	attrSecurityFirstTime    = "tapio.security.first_time"
	attrSecurityLastTime     = "tapio.security.last_time"
	attrSecurityComm         = "tapio.security.process.comm"
	attrSecurityTruncated    = "tapio.security.truncated"
	attrFilePattern          = "tapio.security.file.pattern"
	attrFileAccess           = "tapio.security.file.access"
	attrFileHardLink         = "tapio.security.file.hard_link"
	attrFileUnresolved       = "tapio.security.file.unresolved"
	attrFileUnlinked         = "tapio.security.file.unlinked"
	attrFileUnreadable       = "tapio.security.file.unreadable"
	attrCapabilitiesGained   = "tapio.security.capabilities.gained"
	attrCapability           = "tapio.security.capability"
	attrPtraceRequest        = "tapio.security.ptrace.request"
	attrMemorySize           = "tapio.security.memory.size"
	attrNamespaces           = "tapio.security.namespaces"
	attrMountSource          = "tapio.security.mount.source"
	attrMountTarget          = "tapio.security.mount.target"
	attrMountType            = "tapio.security.mount.type"
	attrMountFlags           = "tapio.security.mount.flags"
	attrModuleName           = "tapio.security.module.name"
	attrBPFCommand           = "tapio.security.bpf.command"
	attrBPFProgramType       = "tapio.security.bpf.program_type"
	attrSocketFamily         = "tapio.security.socket.family"
	attrSocketType           = "tapio.security.socket.type"
	attrSocketProtocol       = "tapio.security.socket.protocol"
	attrSyslogAction         = "tapio.security.syslog.action"
	attrSecurityFlags        = "tapio.security.flags"
	attrTargetPID            = "tapio.security.target.process.pid"
	attrTargetVPID           = "tapio.security.target.process.vpid"
	attrTargetExecutableName = "tapio.security.target.process.executable.name"
	attrTargetExecutablePath = "tapio.security.target.process.executable.path"
	attrTargetContainerID    = "tapio.security.target.container.id"

	attrEtcdEndpoints      = "tapio.etcd.endpoints"
	attrEtcdFileType       = "tapio.etcd.file.type"
	attrEtcdFileDirectory  = "tapio.etcd.file.directory"
	attrEtcdCall           = "tapio.etcd.call"
	attrEtcdDuration       = "tapio.etcd.duration"
	attrEtcdWriteSize      = "tapio.etcd.write.size"
	attrEtcdConnectionType = "tapio.etcd.connection.type"
	attrEtcdChangeType     = "tapio.etcd.change.type"
	attrEtcdClusterID      = "tapio.etcd.cluster.id"
	attrEtcdRevision       = "tapio.etcd.revision"
	attrEtcdRevisionFirst  = "tapio.etcd.revision.first"
	attrEtcdRevisionLast   = "tapio.etcd.revision.last"
	attrEtcdKey            = "tapio.etcd.key"
	attrEtcdKeyTruncated   = "tapio.etcd.key.truncated"
	attrEtcdObjectGroup    = "tapio.etcd.object.group"
	attrEtcdObjectResource = "tapio.etcd.object.resource"
	attrEtcdObjectName     = "tapio.etcd.object.name"
)

// Of what is beyond the rate limits.
const (
	attrThrottleFamily = "tapio.throttle.family"
	attrThrottleLimit  = "tapio.throttle.limit"
	attrThrottleCount  = "tapio.throttle.count"
	attrCgroupID       = "tapio.cgroup.id"
)

// Of the family cni.
const (
	attrCNICommand       = "tapio.cni.command"
	attrCNIPluginName    = "tapio.cni.plugin.name"
	attrCNIPlugins       = "tapio.cni.plugins"
	attrCNINetnsPath     = "tapio.cni.netns.path"
	attrCNINetnsInode    = "tapio.cni.netns.inode"
	attrCNINetnsAge      = "tapio.cni.netns.age"
	attrCNINetnsChange   = "tapio.cni.netns.change"
	attrCNIErrorCode     = "tapio.cni.error.code"
	attrCNIErrorMessage  = "tapio.cni.error.message"
	attrCNIErrorDetails  = "tapio.cni.error.details"
	attrCNIErrorUnparsed = "tapio.cni.error.unparsed"
	attrCNITruncated     = "tapio.cni.truncated"
)

// etcdService is the service.name of a cluster that is watched.
const etcdService = "etcd"

// The ids of struct credentials that are told, below tapio.security.credentials.before and .after.
const (
	attrCredentialsBefore = "tapio.security.credentials.before."
	attrCredentialsAfter  = "tapio.security.credentials.after."
)

// Values of tapio.security.outcome.
const (
	outcomeAllowed = "allowed"
	outcomeDenied  = "denied"
)

// Names of spans and events.
const (
	spanProcessExec  = "process.exec"
	spanTCPConnect   = "tcp.connect"
	spanTLSHandshake = "tls.handshake"
	spanDNSQuery     = "dns.query"
	spanDNSLookup    = "dns.lookup"

	spanCNIPrefix   = "cni."
	spanCNIPlugin   = "cni.plugin"
	spanNetnsCreate = "cni.netns.create"
	spanNetnsDelete = "cni.netns.delete"

	spanSecurityPrefix  = "security."
	eventSecurityPrefix = "tapio.security."

	eventProcessExec      = "tapio.process.exec"
	eventProcessFork      = "tapio.process.fork"
	eventProcessExit      = "tapio.process.exit"
	eventProcessOOMKill   = "tapio.process.oom_kill"
	eventConnectionClose  = "tapio.network.connection.close"
	eventConnectionReport = "tapio.network.connection.report"
	eventTLSFailure       = "tapio.tls.failure"
	eventDNSFailure       = "tapio.dns.failure"
	eventCNIFailure       = "tapio.cni.failure"
	eventNetnsFailure     = "tapio.cni.netns.failure"
	eventEtcdSlowSync     = "tapio.etcd.slow_sync"
	eventEtcdSlowWrite    = "tapio.etcd.slow_write"
	eventEtcdFailedSync   = "tapio.etcd.failed_sync"
	eventEtcdFailedWrite  = "tapio.etcd.failed_write"
	eventEtcdChange       = "tapio.etcd.change"
	eventEtcdMissed       = "tapio.etcd.changes_missed"
	eventThrottleStart    = "tapio.throttle.start"
	eventThrottleStop     = "tapio.throttle.stop"
)
