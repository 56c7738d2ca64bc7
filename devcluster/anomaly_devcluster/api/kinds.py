"""The built-in kinds as data: what is served, list keys, defaults, columns. Their fields are in types.json."""

# ruff: noqa: E501 - tables: one row a line

from typing import Any

Column = tuple[str, str, int, str]
"""Name, type, priority, and the cell: a path that begins with a dot, or the name of a function in tables.py."""

AGE: Column = ("Age", "date", 0, ".metadata.creationTimestamp")
NAME: Column = ("Name", "string", 0, ".metadata.name")

# group, version, plural, kind, type, namespaced, short names, categories, columns
BUILTIN: tuple[tuple[str, str, str, str, str, bool, tuple[str, ...], tuple[str, ...], tuple[Column, ...]], ...] = (
    ("", "v1", "namespaces", "Namespace", "Namespace", False, ("ns",), (), (NAME, ("Status", "string", 0, ".status.phase"), AGE)),
    ("", "v1", "nodes", "Node", "Node", False, ("no",), (), (NAME, ("Status", "string", 0, "node_status"), ("Roles", "string", 0, "node_roles"), AGE, ("Version", "string", 0, ".status.nodeInfo.kubeletVersion"), ("Internal-IP", "string", 1, "node_address"), ("OS-Image", "string", 1, ".status.nodeInfo.osImage"))),
    ("", "v1", "pods", "Pod", "Pod", True, ("po",), ("all",), (NAME, ("Ready", "string", 0, "pod_ready"), ("Status", "string", 0, "pod_status"), ("Restarts", "string", 0, "pod_restarts"), AGE, ("IP", "string", 1, "pod_address"), ("Node", "string", 1, "pod_node"), ("Nominated Node", "string", 1, "nominated_node"), ("Readiness Gates", "string", 1, "none"))),
    ("", "v1", "services", "Service", "Service", True, ("svc",), ("all",), (NAME, ("Type", "string", 0, ".spec.type"), ("Cluster-IP", "string", 0, ".spec.clusterIP"), ("External-IP", "string", 0, "none"), ("Port(s)", "string", 0, "service_ports"), AGE, ("Selector", "string", 1, "service_selector"))),
    ("", "v1", "configmaps", "ConfigMap", "ConfigMap", True, ("cm",), (), (NAME, ("Data", "string", 0, "data_count"), AGE)),
    ("", "v1", "secrets", "Secret", "Secret", True, (), (), (NAME, ("Type", "string", 0, ".type"), ("Data", "string", 0, "data_count"), AGE)),
    ("", "v1", "serviceaccounts", "ServiceAccount", "ServiceAccount", True, ("sa",), (), (NAME, ("Secrets", "string", 0, "secret_count"), AGE)),
    ("", "v1", "events", "Event", "Event", True, ("ev",), (), (("Last Seen", "string", 0, "event_last_seen"), ("Type", "string", 0, ".type"), ("Reason", "string", 0, ".reason"), ("Object", "string", 0, "event_object"), ("Subobject", "string", 1, ".involvedObject.fieldPath"), ("Source", "string", 1, "event_source"), ("Message", "string", 0, ".message"), ("First Seen", "string", 1, "event_first_seen"), ("Count", "string", 1, "event_count"), ("Name", "string", 1, ".metadata.name"))),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", "PersistentVolumeClaim", True, ("pvc",), (), (NAME, ("Status", "string", 0, ".status.phase"), ("Volume", "string", 0, ".spec.volumeName"), ("Capacity", "string", 0, ".status.capacity.storage"), ("Access Modes", "string", 0, "access_modes"), ("StorageClass", "string", 0, ".spec.storageClassName"), AGE, ("VolumeMode", "string", 1, ".spec.volumeMode"))),
    ("events.k8s.io", "v1", "events", "Event", "EventsEvent", True, ("ev",), (), (("Last Seen", "string", 0, "event_last_seen"), ("Type", "string", 0, ".type"), ("Reason", "string", 0, ".reason"), ("Object", "string", 0, "event_object"), ("Message", "string", 0, ".message"), ("Name", "string", 1, ".metadata.name"))),
    ("apps", "v1", "deployments", "Deployment", "Deployment", True, ("deploy",), ("all",), (NAME, ("Ready", "string", 0, "deployment_ready"), ("Up-to-date", "string", 0, "updated_replicas"), ("Available", "string", 0, "available_replicas"), AGE, ("Containers", "string", 1, "containers"), ("Images", "string", 1, "images"), ("Selector", "string", 1, "selector"))),
    ("apps", "v1", "replicasets", "ReplicaSet", "ReplicaSet", True, ("rs",), ("all",), (NAME, ("Desired", "integer", 0, ".spec.replicas"), ("Current", "integer", 0, "current_replicas"), ("Ready", "integer", 0, "ready_replicas"), AGE, ("Containers", "string", 1, "containers"), ("Images", "string", 1, "images"), ("Selector", "string", 1, "selector"))),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", "ControllerRevision", True, (), (), (NAME, ("Controller", "string", 0, "controller"), ("Revision", "string", 0, ".revision"), AGE)),
    ("batch", "v1", "jobs", "Job", "Job", True, (), ("all",), (NAME, ("Status", "string", 0, "job_status"), ("Completions", "string", 0, "job_completions"), ("Duration", "string", 0, "job_duration"), AGE, ("Containers", "string", 1, "containers"), ("Images", "string", 1, "images"), ("Selector", "string", 1, "selector"))),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "HorizontalPodAutoscaler", True, ("hpa",), ("all",), (NAME, ("Reference", "string", 0, "autoscaler_reference"), ("Targets", "string", 0, "autoscaler_targets"), ("MinPods", "string", 0, ".spec.minReplicas"), ("MaxPods", "string", 0, ".spec.maxReplicas"), ("Replicas", "string", 0, "autoscaler_replicas"), AGE)),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", "PodDisruptionBudget", True, ("pdb",), (), (NAME, ("Min Available", "string", 0, "budget_minimum"), ("Max Unavailable", "string", 0, "budget_maximum"), ("Allowed Disruptions", "string", 0, "budget_allowed"), AGE)),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", "NetworkPolicy", True, ("netpol",), (), (NAME, ("Pod-Selector", "string", 0, "pod_selector"), AGE)),
    ("coordination.k8s.io", "v1", "leases", "Lease", "Lease", True, (), (), (NAME, ("Holder", "string", 0, ".spec.holderIdentity"), AGE)),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", "EndpointSlice", True, (), (), (NAME, ("AddressType", "string", 0, ".addressType"), ("Ports", "string", 0, "slice_ports"), ("Endpoints", "string", 0, "slice_endpoints"), AGE)),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", "Role", True, (), (), (NAME, ("Created At", "date", 0, ".metadata.creationTimestamp"))),
    ("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", "RoleBinding", True, (), (), (NAME, ("Role", "string", 0, "role"), AGE)),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", "ClusterRole", False, (), (), (NAME, ("Created At", "date", 0, ".metadata.creationTimestamp"))),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", "ClusterRoleBinding", False, (), (), (NAME, ("Role", "string", 0, "role"), AGE)),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", "CustomResourceDefinition", False, ("crd", "crds"), ("api-extensions",), (NAME, ("Created At", "date", 0, ".metadata.creationTimestamp"))),
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicy", False, (), ("api-extensions",), (NAME, ("Validations", "integer", 0, "validation_count"), ("ParamKind", "string", 0, "param_kind"), AGE)),
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicyBinding", False, (), ("api-extensions",), (NAME, ("PolicyName", "string", 0, ".spec.policyName"), ("ParamRef", "string", 0, ".spec.paramRef.name"), AGE)),
)  # fmt: skip

# Subresources: plural (with its group) -> name -> (group, version, kind, verbs)
GET_WRITE = ("get", "patch", "update")
SUBRESOURCES: dict[str, dict[str, tuple[str, str, str, tuple[str, ...]]]] = {
    "namespaces": {"status": ("", "v1", "Namespace", GET_WRITE), "finalize": ("", "v1", "Namespace", ("update",))},
    "nodes": {"status": ("", "v1", "Node", GET_WRITE)},
    "pods": {
        "status": ("", "v1", "Pod", GET_WRITE),
        "log": ("", "v1", "Pod", ("get",)),
        "eviction": ("policy", "v1", "Eviction", ("create",)),
        "binding": ("", "v1", "Binding", ("create",)),
    },
    "services": {"status": ("", "v1", "Service", GET_WRITE)},
    "serviceaccounts": {"token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",))},
    "persistentvolumeclaims": {"status": ("", "v1", "PersistentVolumeClaim", GET_WRITE)},
    "deployments.apps": {
        "status": ("apps", "v1", "Deployment", GET_WRITE),
        "scale": ("autoscaling", "v1", "Scale", GET_WRITE),
    },
    "replicasets.apps": {
        "status": ("apps", "v1", "ReplicaSet", GET_WRITE),
        "scale": ("autoscaling", "v1", "Scale", GET_WRITE),
    },
    "jobs.batch": {"status": ("batch", "v1", "Job", GET_WRITE)},
    "horizontalpodautoscalers.autoscaling": {
        "status": ("autoscaling", "v2", "HorizontalPodAutoscaler", GET_WRITE),
    },
    "poddisruptionbudgets.policy": {"status": ("policy", "v1", "PodDisruptionBudget", GET_WRITE)},
    "customresourcedefinitions.apiextensions.k8s.io": {
        "status": ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", GET_WRITE),
    },
    "validatingadmissionpolicies.admissionregistration.k8s.io": {
        "status": ("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", GET_WRITE),
    },
}

# Questions that are answered and not stored: group, plural, kind, type, namespaced
REVIEWS: tuple[tuple[str, str, str, bool], ...] = (
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", False),
    ("authentication.k8s.io", "tokenreviews", "TokenReview", False),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", False),
    ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", False),
    ("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", True),
)

NOT_EMULATED = {
    ("", "v1"): "bindings endpoints limitranges persistentvolumes podtemplates replicationcontrollers resourcequotas",
    ("apps", "v1"): "daemonsets statefulsets",
    ("batch", "v1"): "cronjobs",
    ("autoscaling", "v1"): "horizontalpodautoscalers",
    ("networking.k8s.io", "v1"): "ingresses ingressclasses",
    ("admissionregistration.k8s.io", "v1"): "mutatingwebhookconfigurations validatingwebhookconfigurations",
    ("storage.k8s.io", "v1"): "storageclasses csidrivers csinodes volumeattachments",
    ("scheduling.k8s.io", "v1"): "priorityclasses",
    ("node.k8s.io", "v1"): "runtimeclasses",
    ("certificates.k8s.io", "v1"): "certificatesigningrequests",
    ("apiregistration.k8s.io", "v1"): "apiservices",
    ("metrics.k8s.io", "v1beta1"): "pods nodes",
}
"""Known to Kubernetes and not to devcluster: answered with 501, by name."""

FIELD_SELECTORS: dict[str, tuple[str, ...]] = {
    "pods": ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase", "status.podIP", "status.nominatedNodeName"),
    "events": ("involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type"),
    "events.events.k8s.io": ("regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "reason", "reportingController", "type"),
    "secrets": ("type",),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "services": ("spec.clusterIP", "spec.type"),
    "replicasets.apps": ("status.replicas",),
    "jobs.batch": ("status.successful",),
}  # fmt: skip
"""Beyond metadata.name and metadata.namespace."""

_POD = {
    "containers": ("name",), "initContainers": ("name",), "ephemeralContainers": ("name",), "volumes": ("name",),
    "imagePullSecrets": ("name",), "hostAliases": ("ip",), "schedulingGates": ("name",), "resourceClaims": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}  # fmt: skip
_CONTAINER = {
    "env": ("name",), "ports": ("containerPort", "protocol"), "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
}  # fmt: skip
_CONDITIONS = [
    "PodStatus",
    "ServiceStatus",
    "DeploymentStatus",
    "ReplicaSetStatus",
    "NodeStatus",
    "NamespaceStatus",
    "PersistentVolumeClaimStatus",
    "HorizontalPodAutoscalerStatus",
    "PodDisruptionBudgetStatus",
    "CustomResourceDefinitionStatus",
    "ValidatingAdmissionPolicyStatus",
]

LIST_KEYS: dict[str, tuple[str, ...]] = {
    **{f"PodSpec.{name}": keys for name, keys in _POD.items()},
    **{f"{kind}.{name}": keys for kind in ("Container", "EphemeralContainer") for name, keys in _CONTAINER.items()},
    **{f"{kind}.conditions": ("type",) for kind in _CONDITIONS},
    "ObjectMeta.ownerReferences": ("uid",),
    "ResourceRequirements.claims": ("name",),
    "PodStatus.podIPs": ("ip",),
    "PodStatus.resourceClaimStatuses": ("name",),
    "NodeStatus.addresses": ("type",),
    "ServiceSpec.ports": ("port", "protocol"),
    "ServiceAccount.secrets": ("name",),
    "ValidatingAdmissionPolicySpec.matchConditions": ("name",),
    "ValidatingAdmissionPolicySpec.variables": ("name",),
}
"""Lists whose elements have owners of their own, and the keys that tell the elements apart."""

PATCH_KEYS = {"JobStatus.conditions": "type", "EndpointSubset.addresses": ""}
"""Where a strategic merge patch has another key than the first of LIST_KEYS."""

SETS = {
    "ObjectMeta.finalizers",
    "NodeSpec.podCIDRs",
    "ValidatingAdmissionPolicyBindingSpec.validationActions",
}
ATOMIC_FIELDS = {"ServiceSpec.selector", "PodSpec.nodeSelector", "LabelSelector.matchLabels"}
ATOMIC_TYPES = {
    "LabelSelector",
    "NodeSelector",
    "NodeSelectorTerm",
    "LocalObjectReference",
    "ObjectReference",
    "ObjectFieldSelector",
    "ResourceFieldSelector",
    "ConfigMapKeySelector",
    "SecretKeySelector",
    "TypedLocalObjectReference",
    "SecretReference",
    "RoleRef",
    "Subject",
    "OwnerReference",
    "ParamRef",
    "MatchResources",
    "RuleWithOperations",
    "NamedRuleWithOperations",
}

_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_CONTAINER_DEFAULTS = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
    "resources": {},
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "Container": _CONTAINER_DEFAULTS,
    "EphemeralContainer": _CONTAINER_DEFAULTS,
    "ContainerPort": {"protocol": "TCP"},
    "Probe": _PROBE,
    "HTTPGetAction": {"path": "/", "scheme": "HTTP"},
    "GRPCAction": {"service": ""},
    "PodSpec": {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
    },
    "ObjectFieldSelector": {"apiVersion": "v1"},
    "ConfigMapVolumeSource": {"defaultMode": 420},
    "SecretVolumeSource": {"defaultMode": 420},
    "ProjectedVolumeSource": {"defaultMode": 420},
    "DownwardAPIVolumeSource": {"defaultMode": 420},
    "ServiceAccountTokenProjection": {"expirationSeconds": 3600},
    "ServicePort": {"protocol": "TCP"},
    "ServiceSpec": {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    },
    "Secret": {"type": "Opaque"},
    "PersistentVolumeClaimSpec": {"volumeMode": "Filesystem"},
    "DeploymentSpec": {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "strategy": {}},
    "DeploymentStrategy": {"type": "RollingUpdate"},
    "RollingUpdateDeployment": {"maxSurge": "25%", "maxUnavailable": "25%"},
    "ReplicaSetSpec": {"replicas": 1},
    "JobSpec": {
        "completionMode": "NonIndexed",
        "suspend": False,
        "backoffLimit": 6,
        "podReplacementPolicy": "TerminatingOrFailed",
        "manualSelector": False,
    },
    "HorizontalPodAutoscalerSpec": {
        "minReplicas": 1,
        "metrics": [
            {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
            }
        ],
    },
    "NetworkPolicyPort": {"protocol": "TCP"},
    "RoleRef": {"apiGroup": "rbac.authorization.k8s.io"},
    "EndpointSlice": {"endpoints": []},
    "DiscoveryEndpointPort": {"name": "", "protocol": "TCP"},
    "ValidatingAdmissionPolicySpec": {"failurePolicy": "Fail"},
    "MatchResources": {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}},
    "NamedRuleWithOperations": {"scope": "*"},
    "CustomResourceDefinitionSpec": {"conversion": {"strategy": "None"}},
}
"""Constant defaults by type and field; those that depend on other fields are in strategies.py."""
