// Package docker runs the deployment of ../compose.yaml: it makes the images, writes the
// files that each container gets to see, and drives Docker through its command line.
//
//	if err := docker.Available(ctx); err != nil { … }     // one line: what is missing
//	images, err := docker.StandIns(ctx, programs)          // or docker.PublicImages()
//	err = docker.Build{Name: "asid-authz"}.Run(ctx, stdout) // the image that ships
//
// Public images are the default. Where no registry can be reached, stand-ins are made of
// the programs that the other tests run; what was run with which is in [Images.String].
//
// The package knows nothing of testing, and starts no engine: it uses the one that answers.
package docker
