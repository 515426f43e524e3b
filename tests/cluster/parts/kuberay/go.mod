module endcap.dev/tests/cluster/kuberay

go 1.26

// Of KubeRay only the definition of its kinds is read; nothing is built.
require github.com/ray-project/kuberay/ray-operator v1.4.2
