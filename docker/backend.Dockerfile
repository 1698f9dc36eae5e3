# TensorFlow Serving on GPUs, with the files that `tensorseek serve config` makes.
#
#     docker build -f docker/backend.Dockerfile -t tensorseek-backend docker
#     docker run --gpus all -v "$PWD/models:/models:ro" -v "$PWD/config:/config:ro" tensorseek-backend
#
# Without a GPU: --build-arg SERVING=tensorflow/serving:2.19.1
ARG SERVING=tensorflow/serving:2.19.1-gpu
FROM ${SERVING}
RUN useradd --create-home --uid 1000 tensorseek
USER 1000
EXPOSE 8500 8501
# bash's own /dev/tcp: the image has neither curl nor Python.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD \
    ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8500"]
# A gateway asks every second whether the backend is there; without the last flag gRPC breaks off
# the connection of who does that.
ENTRYPOINT ["/usr/bin/tensorflow_model_server"]
CMD ["--port=8500", "--rest_api_port=8501", \
     "--model_config_file=/config/models.config", "--model_config_file_poll_wait_seconds=30", \
     "--file_system_poll_wait_seconds=5", \
     "--enable_batching=true", "--batching_parameters_file=/config/batching_parameters.txt", \
     "--monitoring_config_file=/config/monitoring.config", \
     "--grpc_channel_arguments=grpc.http2.max_ping_strikes=0"]
